// Compare: studies side by side, those of several seeds as one line with an interval.

import { Empty } from "../ui.tsx";
import { count } from "../words.ts";
import { Drawn } from "../figure.tsx";
import type { Figure } from "../figure.tsx";
import { PageHead, Table, exact, link, useGet, useQuery } from "../parts/kit.tsx";

interface Line {
  name: string;
  method: string;
  objectives: { name: string; goal: string }[];
  counts: Record<string, number>;
  best: number | null;
}

interface Board {
  studies: Line[];
}

interface Compared {
  name: string;
  method: string;
  trials: number;
  completed: number;
  failed: number;
  cost: number;
  best: number | null;
  best_trial: number | null;
  best_params: Record<string, unknown> | null;
  group: string;
}

interface Answer {
  studies: Compared[];
  figure: Figure | null;
  rows: { trials: number; values: (number | null)[] }[];
  space: string[];
  sentence: string;
}

const FEWEST = 2;

export function Compare() {
  const [text, setText] = useQuery("studies", "");
  const { data: board } = useGet<Board>("/api/v1/board");
  const all = board?.studies ?? [];
  const chosen = split(text, all.map((s) => s.name));
  const goal = all.find((s) => s.name === chosen[0])?.objectives[0];
  const choose = (name: string, on: boolean): void => setText(joined(on ? [...chosen, name] : chosen.filter((c) => c !== name)));
  return (
    <>
      <PageHead title="Compare studies" what="The best result so far against the number of trials. Studies that differ only in their seed become one line with an interval." />
      <div class="beside">
        <fieldset class="card picks">
          <legend>Studies</legend>
          <div class="picks-list">
            {all.map((line) => {
              const objective = line.objectives[0];
              const fits = !goal || !objective || (objective.name === goal.name && objective.goal === goal.goal);
              return (
                <label key={line.name} class="pick">
                  <input type="checkbox" checked={chosen.includes(line.name)} onChange={(e) => choose(line.name, e.currentTarget.checked)} />
                  <span class="pick-words">
                    <span>{line.name}</span>
                    <span class="muted small">{line.method}, {count(total(line), "trial")}{fits ? "" : `; ${objective.goal}s ${objective.name}`}</span>
                  </span>
                </label>
              );
            })}
            {!all.length && <p class="muted">No studies.</p>}
          </div>
        </fieldset>
        <div class="stack">
          {chosen.length < FEWEST ? <Empty>Choose at least two studies.</Empty> : <Result chosen={chosen} />}
        </div>
      </div>
    </>
  );
}

function Result({ chosen }: { chosen: string[] }) {
  const [first, ...others] = chosen;
  const path = `/api/v1/studies/${encodeURIComponent(first!)}/compare?with=${encodeURIComponent(joined(others))}`;
  const { data, error } = useGet<Answer>(path);
  if (error) return <Empty>{error}</Empty>;
  if (!data) return <Empty>Comparing…</Empty>;
  return (
    <>
      {data.figure ? <div class="verdict"><Drawn figure={data.figure} /></div> : <p class="verdict">{data.sentence}</p>}
      <section class="card" aria-label="Studies">
        <h2>What they found</h2>
        <Table
          label="What the studies found"
          head={["study", "method", "trials", "failed", "cost", "best", "by trial"]}
          rows={data.studies.map((s) => [
            <a href={link(s.name)}>{s.name}</a>,
            s.method,
            `${s.trials}`,
            `${s.failed}`,
            exact(s.cost, 4),
            exact(s.best, 4),
            s.best_trial === null ? "—" : <a href={link(s.name, `trial/${s.best_trial}`)}>{s.best_trial}</a>,
          ])}
        />
      </section>
      <section class="card" aria-label="Best after each number of trials">
        <h2>Best value after so many trials</h2>
        <Table
          label="Best value after so many trials"
          head={["trials", ...data.studies.map((s) => s.name)]}
          rows={data.rows.map((row) => [`${row.trials}`, ...row.values.map((v) => exact(v, 4))])}
        />
      </section>
      <Best studies={data.studies} />
      {data.space.length > 0 && (
        <section class="card" aria-label="Spaces">
          <h2>How the first two spaces differ</h2>
          <ul>{data.space.map((line) => <li key={line} class="long">{line}</li>)}</ul>
        </section>
      )}
    </>
  );
}

function Best({ studies }: { studies: Compared[] }) {
  const found = studies.filter((s) => s.best_params !== null);
  const names = [...new Set(found.flatMap((s) => Object.keys(s.best_params!)))];
  if (!found.length) return null;
  return (
    <section class="card" aria-label="Best parameters">
      <h2>Parameters of the best trials</h2>
      <Table
        label="Parameters of the best trials"
        head={["parameter", ...found.map((s) => s.name)]}
        rows={names.map((name) => [name, ...found.map((s) => exact(s.best_params![name], 4))])}
      />
    </section>
  );
}

function total(line: Line): number {
  return Object.values(line.counts).reduce((sum, n) => sum + n, 0);
}

function joined(names: string[]): string {
  return names.join(",");
}

function split(text: string, known: string[]): string[] {
  const names = text.split(",").filter((name) => name !== "");
  return known.length ? names.filter((name) => known.includes(name)) : names;
}
