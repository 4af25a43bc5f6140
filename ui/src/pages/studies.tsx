// All studies of the store, newest first.

import { useEffect, useState } from "preact/hooks";
import { Refusal, get } from "../api.ts";
import { asked, choose, go, href, to } from "../route.ts";
import { rights } from "../study.ts";
import { Card, Empty, Num, StateMark } from "../ui.tsx";
import { ago, count } from "../words.ts";

interface Line {
  name: string;
  method: string;
  created: number;
  updated: number;
  objectives: { name: string; goal: string; unit: string }[];
  counts: Record<string, number>;
  best: number | null;
  best_trial: number | null;
  workers: number;
  state: string;
  tags: string[];
}

export interface Board {
  version: string;
  readonly: boolean;
  rights: "read" | "worker" | "admin";
  studies: Line[];
}

const EVERY = 2000;

/** The board, looked at every two seconds while somebody looks at us. */
export function useBoard(): { board: Board | null; trouble: string } {
  const [board, setBoard] = useState<Board | null>(null);
  const [trouble, setTrouble] = useState("");
  useEffect(() => {
    let timer = 0;
    const look = (): void => {
      if (document.hidden) {
        timer = window.setTimeout(look, EVERY);
        return;
      }
      get<Board>("/api/v1/board")
        .then((found) => {
          setBoard(found);
          setTrouble("");
          rights.value = found.readonly ? "read" : found.rights;
        })
        .catch((e: unknown) => e instanceof Refusal && setTrouble(e.message))
        .finally(() => (timer = window.setTimeout(look, EVERY)));
    };
    look();
    return () => window.clearTimeout(timer);
  }, []);
  return { board, trouble };
}

export function Studies() {
  const { board, trouble } = useBoard();
  const [ticked, setTicked] = useState<string[]>([]);
  const search = asked("find");
  if (!board) return <Empty>{trouble || "…"}</Empty>;
  const fits = (s: Line): boolean =>
    [s.name, s.method, ...s.tags].some((t) => t.toLowerCase().includes(search.toLowerCase()));
  const found = board.studies.filter(fits);
  const tick = (name: string): void =>
    setTicked(ticked.includes(name) ? ticked.filter((n) => n !== name) : [...ticked, name]);
  return (
    <>
      <div class="page-head">
        <h1>Studies</h1>
        <div class="tools">
          <label class="choose">
            <span class="muted small">Find</span>
            <input type="search" value={search} onInput={(e) => choose({ find: e.currentTarget.value })} />
          </label>
          {ticked.length > 1 && (
            <a class="button primary" href={href(`/compare?studies=${ticked.map(encodeURIComponent).join(",")}`)}>
              Compare {ticked.length}
            </a>
          )}
        </div>
      </div>
      {trouble && <p class="wrong">{trouble}</p>}
      <Card title={count(found.length, "study").replace("studys", "studies")} wide>
        {found.length ? (
          <div class="scroll" tabIndex={0} role="region" aria-label="Studies">
            <table class="board">
              <thead>
                <tr>
                  <th scope="col"><span class="unseen">Compare</span></th>
                  <th scope="col">study</th>
                  <th scope="col">state</th>
                  <th scope="col" class="right">best</th>
                  <th scope="col">trials</th>
                  <th scope="col">method</th>
                  <th scope="col" class="right">changed</th>
                </tr>
              </thead>
              <tbody>
                {found.map((s) => (
                  <tr key={s.name} onClick={(e) => !(e.target as Element).closest("a,input,label") && go(to(s.name))}>
                    <td>
                      <input type="checkbox" aria-label={`Compare ${s.name}`} checked={ticked.includes(s.name)} onChange={() => tick(s.name)} />
                    </td>
                    <td class="long">
                      <a href={href(to(s.name))}>{s.name}</a>
                      {s.tags.map((t) => <span key={t} class="chip">{t}</span>)}
                    </td>
                    <td><StateMark state={s.state} /></td>
                    <td class="right"><Best line={s} /></td>
                    <td><Counts counts={s.counts} /></td>
                    <td class="muted">{s.method}</td>
                    <td class="right muted" title={new Date(s.updated * 1000).toLocaleString()}>{ago(s.updated)}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        ) : (
          <Empty>
            {board.studies.length ? (
              "No study has that in its name."
            ) : (
              <>No studies yet. Make one: <code>tunewright run --minimize loss -- python train.py --lr '{"{lr:log 1e-5..1e-1}"}'</code></>
            )}
          </Empty>
        )}
      </Card>
    </>
  );
}

function Best({ line }: { line: Line }) {
  const goal = line.objectives[0];
  if (line.best === null) return <span class="muted">{line.objectives.length > 1 ? `${line.objectives.length} objectives` : "–"}</span>;
  return (
    <>
      <span class="muted small long">{goal?.name} </span>
      <Num value={line.best} />
    </>
  );
}

const PARTS: [string, string][] = [["good", "completed"], ["live", "running"], ["wait", "paused"], ["bad", "failed"]];

/** Counts by state, as a bar and in words. */
function Counts({ counts }: { counts: Record<string, number> }) {
  const sum = Object.values(counts).reduce((a, b) => a + b, 0);
  const wait = (counts["paused"] ?? 0) + (counts["waiting"] ?? 0) + (counts["stopped"] ?? 0);
  const parts: Record<string, number> = {
    completed: counts["completed"] ?? 0,
    running: counts["running"] ?? 0,
    paused: wait,
  };
  parts["failed"] = sum - parts["completed"]! - parts["running"]! - wait;
  const words = PARTS.filter(([, n]) => parts[n]).map(([, n]) => `${parts[n]} ${n}`).join(", ");
  return (
    <span class="counts" title={words}>
      <span class="number">{sum.toLocaleString("en")}</span>
      <span class="bar" role="img" aria-label={words || "none"}>
        {PARTS.map(([style, n]) => parts[n] ? <span key={n} class={style} style={{ flexGrow: parts[n] }} /> : null)}
      </span>
    </span>
  );
}
