// One study at a glance: how far it is, what is best, what to do next.

import { useEffect, useState } from "preact/hooks";
import { Refusal, get, of } from "../api.ts";
import { FigureCard } from "../figure.tsx";
import { Answer } from "../parts/answer.tsx";
import { Remarks } from "../parts/remarks.tsx";
import { History } from "../points.tsx";
import { href, to } from "../route.ts";
import type { Rows } from "../rows.ts";
import { TrialTable } from "../table.tsx";
import { Card, Empty, Num, StateMark } from "../ui.tsx";
import { brief, span } from "../words.ts";

interface Trial {
  number: number;
  params: Record<string, unknown>;
  metrics: Record<string, number>;
  step: number;
  place?: { words: string };
}

interface Told {
  state: string;
  counts: Record<string, number>;
  queued: number;
  best: Trial | null;
  pareto: number[];
  gain: string | null;
  advice: string[];
  stop: string | null;
  eta: { trials: number | null; done: number; per_minute: number | null; seconds: number | null } | null;
  workers: unknown[];
  insight: string;
}

/** What the server says about a study in words. */
export function useOverview(study: string, rev: number): Told | null {
  const [told, setTold] = useState<Told | null>(null);
  useEffect(() => {
    const stop = new AbortController();
    get<Told>(of(study, "/overview"), stop.signal).then(setTold, (e: unknown) => {
      if (!(e instanceof Refusal) && !stop.signal.aborted) throw e;
    });
    return () => stop.abort();
  }, [study, rev]);
  return told;
}

export function Overview({ study: rows }: { study: Rows }) {
  const told = useOverview(rows.name, rows.rev);
  return (
    <>
      <div class="tiles">
        <Best rows={rows} told={told} />
        <Progress rows={rows} told={told} />
        <Next told={told} />
      </div>
      {rows.sizes.length > 0 && <Answer study={rows.name} />}
      <History rows={rows} />
      <div class="halves">
        <FigureCard study={rows.name} kind="importance" title="Importance" lazy />
        <FigureCard study={rows.name} kind="edf" title="Distribution of results" lazy />
      </div>
      <FigureCard study={rows.name} kind="timeline" title="Timeline" lazy />
      <Card title="Best trials" wide tools={<a href={href(to(rows.name, "trials"))}>All trials</a>}>
        <TrialTable rows={rows} height={300} />
      </Card>
      <Remarks study={rows.name} trial={null} />
    </>
  );
}

function Best({ rows, told }: { rows: Rows; told: Told | null }) {
  const goal = rows.objectives[0];
  const best = told?.best;
  if (rows.objectives.length > 1) {
    return (
      <Card title="Best">
        <p class="big"><Num value={told?.pareto.length ?? null} /></p>
        <p>trials that no other beats in every objective: <a href={href(to(rows.name, "pareto"))}>see the front</a></p>
      </Card>
    );
  }
  if (!goal || !best) return <Card title="Best"><Empty>{told ? "No result yet." : "…"}</Empty></Card>;
  return (
    <Card title={`Best ${goal.name}`} insight={told?.gain ?? undefined}>
      <p class="big">
        <Num value={best.metrics[goal.name]} /> <span class="unit">{goal.unit}</span>
      </p>
      <p class="small">
        <a href={href(to(rows.name, `trial/${best.number}`))}>trial {best.number}</a>
        {best.place ? `, at ${best.place.words}` : best.step ? `, trained to step ${best.step}` : ""}
      </p>
      <dl class="facts">
        {Object.entries(best.params).slice(0, 12).map(([name, value]) => (
          <div key={name}>
            <dt class="long">{name}</dt>
            <dd class="number long">{typeof value === "number" ? brief(value) : String(value)}</dd>
          </div>
        ))}
      </dl>
    </Card>
  );
}

function Progress({ rows, told }: { rows: Rows; told: Told | null }) {
  return (
    <Card title="Progress" insight={told?.insight}>
      <p class="big">
        <span class="number">{rows.n.toLocaleString("en")}</span> <span class="unit">trials</span>
      </p>
      {told && (
        <ul class="states small">
          {Object.entries(told.counts).map(([state, n]) => (
            <li key={state}>
              <StateMark state={state} /> <span class="number">{n.toLocaleString("en")}</span>
            </li>
          ))}
          {told.queued > 0 && <li>{told.queued} enqueued</li>}
        </ul>
      )}
      {told?.eta?.seconds != null && <p class="small muted">about {span(told.eta.seconds)} left</p>}
    </Card>
  );
}

function Next({ told }: { told: Told | null }) {
  return (
    <Card title="What next">
      {told && (told.advice.length || told.stop) ? (
        <ul class="advice small">
          {told.stop && <li>{told.stop}</li>}
          {told.advice.map((a) => <li key={a}>{a}</li>)}
        </ul>
      ) : (
        <Empty>{told ? "Nothing stands out. Let it run." : "…"}</Empty>
      )}
    </Card>
  );
}
