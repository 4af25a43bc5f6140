// The table of all trials.

import { asked, choose } from "../route.ts";
import type { Rows } from "../rows.ts";
import { columnNames } from "../rows.ts";
import { TrialTable, saveCsv } from "../table.tsx";
import { Card } from "../ui.tsx";

export function Trials({ study: rows }: { study: Rows }) {
  const all = columnNames(rows);
  const usual = all.filter((n) => !["cost", "by", "worker"].includes(n)).slice(0, 14);
  const shown = asked("cols") ? asked("cols").split("~") : usual;
  const flip = (name: string): void => {
    const next = all.filter((n) => (n === name ? !shown.includes(n) : shown.includes(n)));
    choose({ cols: next.length ? next.join("~") : "" });
  };
  return (
    <Card
      title="Trials"
      wide
      tools={
        <>
          <button type="button" class="plain" aria-pressed={asked("diff") !== ""} onClick={() => choose({ diff: asked("diff") ? "" : "best" })}>
            Against the best
          </button>
          <details class="menu">
            <summary class="plain">Columns</summary>
            <fieldset>
              <legend class="unseen">Columns</legend>
              {all.map((n) => (
                <label key={n} class="pick">
                  <input type="checkbox" checked={shown.includes(n)} onChange={() => flip(n)} /> <span class="long">{n}</span>
                </label>
              ))}
            </fieldset>
          </details>
          <button type="button" class="plain" onClick={() => saveCsv(rows)}>CSV</button>
        </>
      }
    >
      <TrialTable rows={rows} height={Math.max(360, window.innerHeight - 260)} />
    </Card>
  );
}
