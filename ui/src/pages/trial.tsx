// One trial: what it was given, what came out, what it printed, and how to try it again.

import { useState } from "preact/hooks";
import type { ComponentChildren } from "preact";
import { of } from "../api.ts";
import { Drawn } from "../figure.tsx";
import type { Figure } from "../figure.tsx";
import { Copying } from "../parts/copying.tsx";
import { Enqueue } from "../parts/enqueue.tsx";
import { PageHead, exact, link, revision, useGet } from "../parts/kit.tsx";
import { Remarks } from "../parts/remarks.tsx";
import { near, same, written } from "../parts/space.ts";
import type { Config, SpaceData } from "../parts/space.ts";
import type { Rows } from "../rows.ts";
import { Tail } from "../parts/tail.tsx";
import { may } from "../study.ts";
import { Empty, Select, StateMark, say } from "../ui.tsx";
import { span, when } from "../words.ts";

interface Report {
  step: number;
  metrics: Record<string, number>;
  bad: Record<string, string> | null;
  /** With a scale, what the step means and its place on an axis of sizes. */
  words?: string;
  across?: number;
}

interface Trial {
  number: number;
  status: string;
  params: Config;
  metrics: Record<string, number>;
  step: number;
  until: number | null;
  attempts: number;
  cost: number | null;
  started: number;
  ended: number | null;
  worker: string;
  by: string;
  why: Record<string, unknown> | null;
  parent: [number, number] | null;
  error: string;
  reports: Report[];
  place?: { words: string; parent?: string };
}

interface Told {
  spec: { problem: { space: SpaceData } };
}

interface Overview {
  best: Trial | null;
  default: { trial: number | null } | null;
}

export function TrialPage({ study, number }: { study: Rows; number: number }) {
  const base = of(study.name);
  const { data: trial, error } = useGet<Trial>(`${base}/trials/${number}`, revision());
  const { data: overview } = useGet<Overview>(`${base}/overview`, revision());
  const bestNumber = overview?.best?.number ?? study.best;
  const defaultNumber = overview?.default?.trial ?? null;
  const { data: best } = useGet<Trial>(bestNumber !== null && bestNumber >= 0 && bestNumber !== number ? `${base}/trials/${bestNumber}` : null);
  const { data: start } = useGet<Trial>(defaultNumber !== null && defaultNumber !== number ? `${base}/trials/${defaultNumber}` : null);
  if (error) {
    return (
      <>
        <PageHead title={`Trial ${number}`} what="" />
        <Empty>{error}</Empty>
      </>
    );
  }
  if (!trial) return <PageHead title={`Trial ${number}`} what="Loading…" />;
  const peers = { best: best ?? null, start: start ?? null };
  return (
    <>
      <Head study={study.name} trial={trial} total={study.n} best={bestNumber === number} />
      <div class="halves">
        <Facts study={study.name} trial={trial} />
        <Metrics trial={trial} best={peers.best} first={study.objectives.map((o) => o.name)} />
      </div>
      {trial.error && (
        <section class="card" aria-label="Error">
          <h2>What went wrong</h2>
          <pre class="code wrong" tabIndex={0} aria-label="Error text">{trial.error}</pre>
        </section>
      )}
      <Params trial={trial} best={peers.best} start={peers.start} />
      <Course trial={trial} best={peers.best} sizes={study.sizes} first={study.objectives[0]?.name ?? ""} />
      <Tail study={study.name} trial={number} running={trial.status === "running"} />
      <Remarks study={study.name} trial={number} />
      <Copying study={study.name} trial={number} />
    </>
  );
}

function Head({ study, trial, total, best }: { study: string; trial: Trial; total: number; best: boolean }) {
  const [form, setForm] = useState<"" | "again" | "near">("");
  const { data } = useGet<Told>(may("worker") ? of(study) : null);
  const space = data?.spec.problem.space;
  const at = (n: number): string => link(study, `trial/${n}`);
  return (
    <header class="page-head trial-head">
      <h1>
        Trial {trial.number} <StateMark state={trial.status} /> {best && <span class="badge best-badge">★ best</span>}
      </h1>
      <div class="tools">
        {trial.number > 0 && <a class="button" href={at(trial.number - 1)}>← {trial.number - 1}</a>}
        {trial.number < total - 1 && <a class="button" href={at(trial.number + 1)}>{trial.number + 1} →</a>}
        {space && (
          <>
            <button type="button" onClick={() => setForm("again")}>Run again…</button>
            <button type="button" onClick={() => setForm("near")}>Enqueue near…</button>
          </>
        )}
      </div>
      {form && space && (
        <Enqueue
          study={study}
          space={space}
          title={form === "again" ? `Run trial ${trial.number} again` : `Try near trial ${trial.number}`}
          start={form === "again" ? trial.params : near(space, trial.params)}
          onClose={(text) => {
            setForm("");
            if (text) say(text);
          }}
        />
      )}
    </header>
  );
}

function Facts({ study, trial }: { study: string; trial: Trial }) {
  const took = trial.ended !== null ? trial.ended - trial.started : null;
  const rows: [string, ComponentChildren][] = [
    ["Started", when(trial.started)],
    ["Ended", trial.ended !== null ? when(trial.ended) : "not yet"],
  ];
  if (took !== null) rows.push(["Took", span(took)]);
  if (trial.cost !== null) rows.push(["Cost", exact(trial.cost)]);
  if (trial.place) rows.push(["Size", trial.place.words]);
  else if (trial.step || trial.until !== null) rows.push(["Steps", trial.until !== null ? `${trial.step} of ${trial.until}` : `${trial.step}`]);
  rows.push(["Worker", trial.worker || "—"], ["Proposed by", trial.by || "—"]);
  if (trial.attempts > 1) rows.push(["Attempts", `${trial.attempts}`]);
  if (trial.parent !== null) {
    rows.push(["Copy of", <a href={link(study, `trial/${trial.parent[0]}`)}>trial {trial.parent[0]}, at {trial.place?.parent ?? `step ${trial.parent[1]}`}</a>]);
  }
  for (const [name, value] of Object.entries(trial.why ?? {})) rows.push([`Why: ${name}`, written(value)]);
  return (
    <section class="card" aria-label="Facts">
      <h2>Facts</h2>
      <dl class="facts trial-facts">
        {rows.map(([name, value]) => (
          <div key={name}>
            <dt>{name}</dt>
            <dd>{value}</dd>
          </div>
        ))}
      </dl>
    </section>
  );
}

function Metrics({ trial, best, first }: { trial: Trial; best: Trial | null; first: string[] }) {
  const names = [...first.filter((n) => n in trial.metrics), ...Object.keys(trial.metrics).filter((n) => !first.includes(n))];
  return (
    <section class="card" aria-label="Metrics">
      <h2>Metrics</h2>
      {names.length === 0 ? (
        <p class="muted">No result{trial.status === "running" ? " yet" : ""}.</p>
      ) : (
        <div class="table-box" tabIndex={0} role="group" aria-label="Table of metrics">
          <table>
            <thead>
              <tr>
                <th scope="col">Metric</th>
                <th scope="col" class="right">This trial</th>
                {best && <th scope="col" class="right">Best (trial {best.number})</th>}
              </tr>
            </thead>
            <tbody>
              {names.map((name) => (
                <tr key={name}>
                  <th scope="row"><span class="long" title={name}>{name}</span></th>
                  <td class="right number">{exact(trial.metrics[name])}</td>
                  {best && <td class="right number">{exact(best.metrics[name])}</td>}
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}

function Params({ trial, best, start }: { trial: Trial; best: Trial | null; start: Trial | null }) {
  const [only, setOnly] = useState("all");
  const others = [best, start].filter((t): t is Trial => t !== null);
  const names = [...new Set([trial, ...others].flatMap((t) => Object.keys(t.params)))];
  const differs = (name: string): boolean => others.some((t) => !same(t.params[name], trial.params[name]));
  const shown = only === "different" ? names.filter(differs) : names;
  const cell = (of: Trial, name: string) => {
    if (!(name in of.params)) return <span class="muted">not used</span>;
    const value = of.params[name];
    return <span class={typeof value === "number" ? "number" : ""}>{exact(value)}</span>;
  };
  return (
    <section class="card" aria-label="Parameters">
      <div class="card-head">
        <h2>Parameters</h2>
        {others.length > 0 && (
          <div class="tools">
            <Select label="Show" value={only} options={[["all", "all"], ["different", "those that differ"]]} onChange={setOnly} />
          </div>
        )}
      </div>
      <div class="table-box" tabIndex={0} role="group" aria-label="Table of parameters">
        <table class="params">
          <thead>
            <tr>
              <th scope="col">Parameter</th>
              <th scope="col" class="right">This trial</th>
              {best && <th scope="col" class="right">Best (trial {best.number})</th>}
              {start && <th scope="col" class="right">Default (trial {start.number})</th>}
            </tr>
          </thead>
          <tbody>
            {shown.map((name) => (
              <tr key={name} class={differs(name) ? "differs" : ""}>
                <th scope="row"><span class="long" title={name}>{name}</span></th>
                <td class="right">{cell(trial, name)}</td>
                {best && <td class="right">{mark(best, trial, name)}{cell(best, name)}</td>}
                {start && <td class="right">{mark(start, trial, name)}{cell(start, name)}</td>}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}

function mark(other: Trial, trial: Trial, name: string) {
  return same(other.params[name], trial.params[name]) ? null : <span class="differs-mark" title="differs">≠ </span>;
}

function Course({ trial, best, sizes, first }: { trial: Trial; best: Trial | null; sizes: string[]; first: string }) {
  const [metric, setMetric] = useState("");
  const names = [...new Set(trial.reports.flatMap((r) => Object.keys(r.metrics)))];
  if (trial.reports.length < 2 || !names.length) return null;
  const chosen = metric || (names.includes(first) ? first : names[0]!);
  return (
    <Drawn
      figure={course(trial, best, sizes, chosen)}
      tools={names.length > 1 && <Select label="Metric" value={chosen} options={names.map((n) => [n, n])} onChange={setMetric} />}
    />
  );
}

function course(trial: Trial, best: Trial | null, sizes: string[], metric: string): Figure {
  const told = (t: Trial): Report[] => t.reports.filter((r) => metric in r.metrics);
  const points = (t: Trial): [number, number][] => told(t).map((r) => [r.across ?? r.step, r.metrics[metric]!]);
  const mine = points(trial);
  const theirs = best ? points(best) : [];
  const all = [...mine, ...theirs];
  const values = all.map(([, v]) => v);
  const [low, high] = [Math.min(...values), Math.max(...values)];
  const log = low > 0 && high / low > 30;
  const pad = log ? 0 : (high - low || Math.abs(high) || 1) * 0.05;
  return {
    kind: "course",
    title: `Course of ${metric}`,
    how: "The line is this trial as it was trained" + (best ? "; the pale one is the best trial." : "."),
    insight: mine.length ? `It began at ${short(mine[0]![1])} and ended at ${short(mine[mine.length - 1]![1])}.` : "",
    columns: 1,
    legend: [["s0", `trial ${trial.number}`], ...(best && theirs.length ? ([["muted", `best, trial ${best.number}`]] as [string, string][]) : [])],
    head: [sizes.length ? "size" : "step", metric],
    table: told(trial).map((r) => [r.words ?? `${r.step}`, `${r.metrics[metric]}`]),
    panels: [
      {
        title: "",
        height: 240,
        x: sizes.length
          ? { label: "size", kind: "names", low: -0.5, high: sizes.length - 0.5, names: sizes, clipped: 0 }
          : { label: "step", kind: "linear", low: 0, high: Math.max(...all.map(([s]) => s)), names: null, clipped: 0 },
        y: { label: metric, kind: log ? "log" : "linear", low: log ? low / 1.1 : low - pad, high: log ? high * 1.1 : high + pad, names: null, clipped: 0 },
        marks: [
          ...(theirs.length ? [{ type: "line" as const, style: "muted", points: theirs, trial: best!.number }] : []),
          { type: "line" as const, style: "s0", points: mine, trial: trial.number },
        ],
      },
    ],
  };
}

function short(value: number): string {
  return Number(value.toPrecision(4)).toString();
}
