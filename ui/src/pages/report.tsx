// Report: the study on one page to print or pass on, and its data as files.

import { Empty } from "../ui.tsx";
import { fixed, of } from "../api.ts";
import { FigureCard } from "../figure.tsx";
import { Lead, Table, exact, useGet } from "../parts/kit.tsx";
import type { Rows } from "../rows.ts";

interface Best {
  number: number;
  params: Record<string, unknown>;
  metrics: Record<string, number>;
}

interface Overview {
  counts: Record<string, number>;
  stop: string;
  best: Best | null;
  pareto: number[];
  gain: string | null;
  advice: string[];
  insight: string;
}

interface Listed {
  kind: string;
  title: string;
  page: string;
}

const FILES: [string, string, string][] = [
  ["html", "Page (HTML)", "one file with all charts, to pass on; needs nothing else"],
  ["csv", "Table (CSV)", "one row per trial, for spreadsheets"],
  ["jsonl", "JSON lines", "one trial per line, with every measurement"],
  ["parquet", "Parquet", "one row per trial, for data frames; typed and small"],
];
const CHARTS = ["history", "pareto", "importance", "slice", "curves", "timeline"];

export function Report({ study }: { study: Rows }) {
  const base = of(study.name);
  const { data } = useGet<Overview>(`${base}/overview`, study.rev);
  const { data: listed } = useGet<Listed[]>(`${base}/charts`);
  const kinds = CHARTS.filter((kind) => listed?.some((chart) => chart.kind === kind));
  const goal = study.objectives.map((o) => `${o.goal} ${o.name}`).join(", ");
  return (
    <>
      <Lead>The study in short, to print or to pass on; and its data as files.</Lead>
      {!fixed && (
        <section class="card no-print" aria-label="Files">
          <h2>Take it with you</h2>
          <ul class="files">
            {FILES.map(([format, title, what]) => (
              <li key={format}>
                <a class="button" href={`${base}/export?format=${format}`} download>{title}</a> <span class="muted">{what}</span>
              </li>
            ))}
          </ul>
          <button type="button" onClick={() => window.print()}>Print this page</button>
        </section>
      )}
      <section class="card" aria-label="Summary">
        <h2>{study.name}</h2>
        <p>
          {goal}; method {study.method}; {study.n} trials{counted(data?.counts ?? {})}.
        </p>
        {data?.insight && <p>{data.insight}</p>}
        {data?.gain && <p>{data.gain}</p>}
        {data && data.advice.length > 0 && <ul>{data.advice.map((line) => <li key={line}>{line}</li>)}</ul>}
        {data?.best && (
          <>
            <h3>Best, trial {data.best.number}</h3>
            <Table
              head={["", "value"]}
              label="Best trial"
              rows={[...Object.entries(data.best.metrics), ...Object.entries(data.best.params)].map(([name, value]) => [name, exact(value, 4)])}
            />
          </>
        )}
        {data && !data.best && data.pareto.length > 0 && <p>{data.pareto.length} trials are beaten by no other: {data.pareto.join(", ")}.</p>}
        {study.n === 0 && <Empty>No trial has begun.</Empty>}
      </section>
      {kinds.map((kind) => <FigureCard key={kind} study={study.name} kind={kind} />)}
    </>
  );
}

function counted(counts: Record<string, number>): string {
  const parts = Object.entries(counts).filter(([, n]) => n > 0).map(([state, n]) => `${n} ${state}`);
  return parts.length ? ` (${parts.join(", ")})` : "";
}
