// The table of trials: only the rows in view are in the page, so a hundred thousand scroll as well as ten.

import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { asked, choose, go, href, to } from "./route.ts";
import type { Column, Rows } from "./rows.ts";
import { column, columnNames } from "./rows.ts";
import { pointed, selection } from "./study.ts";
import { Chip, StateMark, save } from "./ui.tsx";
import { count, shown } from "./words.ts";

const TALL = 30;
const SPARE = 8;

/** The order of rows by a column; those without a value last. */
function sorted(c: Column | null, list: Uint32Array, down: boolean): Uint32Array {
  if (!c) return list;
  const { data } = c;
  return list.sort((a, b) => {
    const [x, y] = [data[a]!, data[b]!];
    if (Number.isNaN(x) || Number.isNaN(y)) return Number(Number.isNaN(x)) - Number(Number.isNaN(y)) || a - b;
    return (down ? y - x : x - y) || a - b;
  });
}

interface Props {
  rows: Rows;
  height?: number;
  /** Columns to show; those that the address names when not given. */
  fixed?: string[];
  /** What the rows are; two tables on a page need two names. */
  name?: string;
}

/** Trials in rows; sorted by a click on a head. */
export function TrialTable({ rows, height = 480, fixed, name = "Trials" }: Props) {
  const all = columnNames(rows);
  const goal = rows.objectives[0];
  const usual = all.filter((n) => !["cost", "by", "worker"].includes(n)).slice(0, 14);
  const wanted = fixed ?? (asked("cols") ? asked("cols").split("~").filter((n) => all.includes(n)) : usual);
  const order = asked("by", goal?.name ?? "trial");
  const down = asked("dir", goal?.goal === "maximize" && order === goal.name ? "down" : "up") === "down";
  const against = !fixed && asked("diff") !== "";
  const [top, setTop] = useState(0);
  const [tall, setTall] = useState(height);
  const box = useRef<HTMLDivElement>(null);
  const chosen = selection.value;
  const list = useMemo(() => {
    const kept: number[] = [];
    for (let i = 0; i < rows.n; i++) if (chosen.mask[i]) kept.push(i);
    return sorted(column(rows, order), Uint32Array.from(kept), down);
  }, [rows, chosen, order, down]);
  const columns = wanted.map((n) => column(rows, n)).filter((c) => c !== null);
  const best = useMemo(() => Array.from(rows.number).indexOf(rows.best), [rows]);
  useEffect(() => {
    if (box.current) setTall(box.current.clientHeight);
  }, []);
  const first = Math.max(0, Math.floor(top / TALL) - SPARE);
  const last = Math.min(list.length, Math.ceil((top + tall) / TALL) + SPARE);
  const visible = Array.from(list.subarray(first, last));
  return (
    <div
      class="scroll trials"
      style={{ maxHeight: `${height}px` }}
      ref={box}
      tabIndex={0}
      role="region"
      aria-label={`${name}: ${count(list.length, "trial")}, by ${order}`}
      onScroll={(e) => setTop(e.currentTarget.scrollTop)}
    >
      <table aria-rowcount={list.length + 1}>
        <thead>
          <tr>
            {columns.map((c) => (
              <th key={c.name} scope="col" class={c.labels || c.said ? "" : "right"} aria-sort={c.name === order ? (down ? "descending" : "ascending") : "none"}>
                <button type="button" class="sort" onClick={() => choose({ by: c.name, dir: c.name === order && !down ? "down" : "up" })}>
                  <span class="long">{c.name}</span>
                  <span aria-hidden="true">{c.name === order ? (down ? "▾" : "▴") : ""}</span>
                </button>
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {first > 0 && <tr aria-hidden="true" style={{ height: `${first * TALL}px` }} />}
          {visible.map((row, i) => (
            <tr
              key={row}
              aria-rowindex={first + i + 2}
              class={row === pointed.value ? "pointed" : row === best ? "best" : ""}
              onPointerEnter={() => (pointed.value = row)}
              onClick={(e) => !(e.target as Element).closest("a") && go(to(rows.name, `trial/${rows.number[row]}`))}
            >
              {columns.map((c) => (
                <Cell key={c.name} column={c} row={row} rows={rows} like={best >= 0 && row !== best && against ? best : -1} />
              ))}
            </tr>
          ))}
          {last < list.length && <tr aria-hidden="true" style={{ height: `${(list.length - last) * TALL}px` }} />}
        </tbody>
      </table>
      {!list.length && <p class="empty muted">{rows.n ? "No trial fits the selection." : "No trials yet."}</p>}
    </div>
  );
}

interface CellProps {
  column: Column;
  row: number;
  rows: Rows;
  /** A row to be compared with: what is the same there is faint, and what differs is strong; -1 for none. */
  like: number;
}

function Cell({ column: c, row, rows, like }: CellProps) {
  if (c.name === "state" && c.labels) return <td><StateMark state={c.labels[c.data[row]!] ?? ""} /></td>;
  if (c.name === "trial") {
    return (
      <td class="right number">
        <a href={href(to(rows.name, `trial/${rows.number[row]}`))}>{rows.number[row]}</a>
      </td>
    );
  }
  const text = shown(c, row);
  const kind = c.labels ? "long" : c.said ? "place" : "right number";
  if (like < 0 || !rows.params.some((p) => p.name === c.name)) return <td class={kind}>{text}</td>;
  return text === shown(c, like) ? <td class={`${kind} same`}>{text && "="}</td> : <td class={`${kind} differs`}>{text || "–"}</td>;
}

/** Chips that say what is chosen, and take it back. */
export function Chosen({ rows }: { rows: Rows }) {
  const chosen = selection.value;
  if (!chosen.on) return null;
  return (
    <Chip onClick={() => choose({ sel: "", q: "" })} label="Choose all trials again">
      {chosen.size.toLocaleString("en")} of {count(rows.n, "trial")}
    </Chip>
  );
}

/** The chosen trials as CSV, made here. */
export function saveCsv(rows: Rows): void {
  const quoted = (v: string): string => (/[",\n]/.test(v) ? `"${v.replaceAll('"', '""')}"` : v);
  const columns = columnNames(rows).map((n) => column(rows, n)).filter((c) => c !== null);
  const lines = [columns.map((c) => quoted(c.name)).join(",")];
  for (let row = 0; row < rows.n; row++) {
    if (!selection.value.mask[row]) continue;
    lines.push(columns.map((c) => {
      const v = c.data[row]!;
      return Number.isNaN(v) ? "" : quoted(c.labels ? (c.labels[v] ?? "") : String(v));
    }).join(","));
  }
  save(`${rows.name}.csv`, new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
}
