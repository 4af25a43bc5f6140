// Charts drawn from the columns in the browser: the history and the scatter, with the shared selection and a brush.

import type { EChartsCoreOption, EChartsType } from "echarts/core";
import { useRef, useState } from "preact/hooks";
import { Files } from "./figure.tsx";
import { axisOption, frame } from "./marks.ts";
import { Plot } from "./plot.tsx";
import { asked, choose, go, to } from "./route.ts";
import type { Column, Rows } from "./rows.ts";
import { column, columnNames, robust } from "./rows.ts";
import { brushBoth, selection } from "./study.ts";
import { TrialTable } from "./table.tsx";
import { colour, dark, viridis } from "./theme.ts";
import { AsTable, Card, Chip, Empty, Select } from "./ui.tsx";
import { brief, count } from "./words.ts";

const GOOD = new Set(["completed", "paused", "running", "waiting", "stopped"]);
const MANY = 2000;

interface Scales {
  x: { low: number; high: number; log: boolean };
  y: { low: number; high: number; log: boolean };
}

function ends(c: Column, n: number, clip: boolean): { low: number; high: number; log: boolean; hidden: number } {
  if (c.labels) return { low: -0.5, high: c.labels.length - 0.5, log: false, hidden: 0 };
  if (c.low !== null && c.high !== null) return { low: c.low, high: c.high, log: c.log, hidden: 0 };
  let [low, high, hidden] = [Infinity, -Infinity, 0];
  for (let i = 0; i < n; i++) {
    const v = c.data[i]!;
    if (Number.isFinite(v)) [low, high] = [Math.min(low, v), Math.max(high, v)];
  }
  if (low > high) return { low: 0, high: 1, log: false, hidden: 0 };
  const log = low > 0 && high / low > 100;
  if (clip && !log) ({ low, high, hidden } = robust(c.data.subarray(0, n)));
  const pad = log ? 0 : (high - low) * 0.04 || Math.abs(high) * 0.05 || 0.5;
  return log ? { low: low / 1.1, high: high * 1.1, log, hidden } : { low: low - pad, high: high + pad, log, hidden };
}

function axisOf(c: Column, scale: { low: number; high: number; log: boolean }, label: string, vertical: boolean): object {
  return axisOption(
    { label, kind: c.labels ? "names" : scale.log ? "log" : "linear", low: round(scale.low), high: round(scale.high), names: c.labels, clipped: 0 },
    vertical,
  );
}

function round(v: number): number {
  return Number(v.toPrecision(5));
}

/** Points of rows as one array: ten thousand small ones would take their time to make and to throw away. */
function flat(list: number[], x: (row: number) => number, y: (row: number) => number): { dimensions: string[]; data: Float64Array } {
  const data = new Float64Array(list.length * 3);
  list.forEach((row, i) => data.set([x(row), y(row), row], i * 3));
  return { dimensions: ["x", "y", "row"], data };
}

/** Best value so far by row, in the order of ``line``. */
function bestSoFar(values: Float64Array, line: number[], sign: number, full: (row: number) => boolean): [number, number][] {
  const out: [number, number][] = [];
  let best = Infinity;
  for (const row of line) {
    const loss = sign * values[row]!;
    if (full(row) && loss < best) {
      best = loss;
      out.push([row, sign * best]);
    }
  }
  return out;
}

const ACROSS: [string, string][] = [["trial", "trials"], ["time", "time"], ["cost", "cost"]];

/** Every result in order, and the best so far. */
export function History({ rows }: { rows: Rows }) {
  const across = asked("x", "trial");
  const [all, setAll] = useState(false);
  const [table, setTable] = useState(false);
  const charts = useRef<EChartsType[]>([]);
  const goal = rows.objectives[0];
  const values = goal && rows.values.get(goal.name);
  if (!goal || !values) return <Card title="History"><Empty>No result yet.</Empty></Card>;
  const chosen = selection.value;
  const sign = goal.goal === "maximize" ? -1 : 1;
  const most = rows.fidelity?.high ?? null;
  const full = (row: number): boolean => rows.states[rows.state[row]!] === "completed" || (most !== null && rows.step[row]! >= most);
  const xs = places(rows, across);
  const line = Array.from({ length: rows.n }, (_, i) => i).filter((i) => Number.isFinite(values[i]!) && GOOD.has(rows.states[rows.state[i]!] ?? ""));
  line.sort((a, b) => xs[a]! - xs[b]! || a - b);
  const y: Column = { name: goal.name, data: Float64Array.from(line, (i) => values[i]!), labels: null, log: false, low: null, high: null };
  const yEnds = ends(y, line.length, !all);
  const best = bestSoFar(values, line, sign, full);
  const last = line.at(-1);
  const xHigh = last === undefined ? 1 : Math.max(xs[last]!, 1e-9);
  const clampY = (v: number): number => Math.min(Math.max(v, yEnds.low), yEnds.high);
  const option = (): EChartsCoreOption => {
    const group = (name: string, rowsIn: number[], fill: string, alpha: number, z: number): object => ({
      type: "scatter", name, z, large: rows.n > MANY, largeThreshold: 1, progressive: 4000,
      // Below four pixels points are squares, which are painted many times faster.
      symbolSize: rows.n > MANY ? 3 : rowsIn.length > 500 ? 4.5 : 7,
      ...flat(rowsIn, (i) => xs[i]!, (i) => clampY(values[i]!)),
      itemStyle: { color: fill, opacity: alpha },
      tooltip: { formatter: (p: { data: number[] }) => tip(rows, p.data[2]!, goal.name) },
      cursor: "pointer",
    });
    const inside = (i: number): boolean => !chosen.on || chosen.mask[i] === 1;
    const step: [number, number][] = best.map(([i, v]) => [xs[i]!, clampY(v)]);
    if (step.length) step.push([xHigh, step.at(-1)![1]]);
    return {
      ...frame(),
      xAxis: axisOption({ label: across === "trial" ? "trial" : across === "time" ? "seconds since the start" : "cost", kind: "linear", low: 0, high: round(xHigh * 1.01), names: null, clipped: 0 }, false),
      yAxis: axisOf(y, yEnds, label(goal), true),
      dataZoom: [{ type: "inside", xAxisIndex: 0, filterMode: "none", zoomOnMouseWheel: "ctrl", moveOnMouseMove: "ctrl" }],
      series: [
        group("others", line.filter((i) => !inside(i)), colour("muted"), 0.18, 1),
        group("stopped early", line.filter((i) => inside(i) && !full(i)), colour("s0"), 0.35, 2),
        group("trained in full", line.filter((i) => inside(i) && full(i)), colour("s0"), 0.85, 3),
        { type: "line", name: "best so far", step: "end", data: step, showSymbol: false, silent: true, z: 4, lineStyle: { color: colour("ink"), width: 1.8 } },
      ],
    };
  };
  const found = best.at(-1);
  return (
    <Card
      title="History"
      wide
      insight={insight(rows, line, found)}
      how="Each point is a trial; the line is the best result so far of a full training. Points below full strength were stopped early."
      tools={
        <>
          <Select label="Across" value={across} options={ACROSS} onChange={(v) => choose({ x: v === "trial" ? "" : v })} />
          {(yEnds.hidden > 0 || all) && (
            <Chip onClick={() => setAll(!all)}>{all ? "Leave out outliers" : `${count(yEnds.hidden, "outlier")} hidden — show`}</Chip>
          )}
          {!table && <Files charts={charts.current} name={`${rows.name} history`} />}
          <AsTable on={table} onChange={setTable} />
        </>
      }
    >
      {table ? (
        <TrialTable name="History" rows={rows} height={300} fixed={["trial", "state", goal.name, "step", "began", "ended", "cost"]} />
      ) : line.length ? (
        <Plot
          option={option}
          height={300}
          label={`${goal.name} of ${line.length} trials. ${insight(rows, line, found)}`}
          on={[rows, across, all, chosen]}
          onReady={(c) => (charts.current[0] = c)}
          onClick={({ data }) => Array.isArray(data) && data.length > 2 && go(to(rows.name, `trial/${rows.number[data[2] as number]}`))}
        />
      ) : (
        <Empty>{waiting(rows)}</Empty>
      )}
    </Card>
  );
}

/** Why there is nothing to see yet. */
export function waiting(rows: Rows): string {
  const running = Array.from(rows.state.subarray(0, rows.n)).filter((s) => rows.states[s] === "running").length;
  if (!rows.n) return "No trials yet. Start the study with study.run(...) or tunewright run.";
  return running ? `No finished trials yet; ${running} running.` : "No trial has a result yet.";
}

function label(goal: { name: string; goal: string; unit: string }): string {
  return `${goal.name}${goal.unit ? ` (${goal.unit})` : ""}, ${goal.goal}d`;
}

function insight(rows: Rows, line: number[], best: [number, number] | undefined): string {
  if (!best) return "";
  const share = (line.indexOf(best[0]) + 1) / line.length;
  const late = share > 0.8 ? " More trials may still find better ones." : "";
  return `The best ${rows.objectives[0]!.name} is ${brief(best[1])}, of trial ${rows.number[best[0]]}, found after ${Math.round(share * 100)} % of the trials.${late}`;
}

function places(rows: Rows, across: string): Float64Array {
  if (across === "time") return rows.ended.map((v, i) => (Number.isNaN(v) ? rows.began[i]! : v));
  if (across === "cost") {
    let sum = 0;
    return rows.cost.map((v) => (sum += Number.isNaN(v) ? 0 : v));
  }
  return rows.number;
}

/** What a point says when it is pointed at. */
export function tip(rows: Rows, row: number, metric: string): string {
  const head = `trial ${rows.number[row]}: ${brief(rows.values.get(metric)?.[row])}`;
  const params = rows.params
    .filter((p) => !Number.isNaN(p.data[row]!))
    .slice(0, 16)
    .map((p) => `${p.name.slice(0, 40)} = ${p.labels ? (p.labels[p.data[row]!] ?? "").slice(0, 40) : brief(p.data[row])}`);
  const place = rows.places.get(rows.step[row]!);
  const state = rows.states[rows.state[row]!] ?? "";
  return [head, place ? `${state} at ${place}` : state, ...params].join("\n");
}

/** Any two columns against each other, coloured by a third; a drag on it is a brush. */
export function Scatter({ rows }: { rows: Rows }) {
  const names = columnNames(rows);
  const goal = rows.objectives[0]?.name ?? "trial";
  const pick = (key: string, otherwise: string): string => (names.includes(asked(key)) ? asked(key) : otherwise);
  const [xName, yName, cName] = [pick("sx", rows.params[0]?.name ?? "trial"), pick("sy", goal), pick("sc", "trial")];
  const [x, y, c] = [column(rows, xName), column(rows, yName), column(rows, cName)];
  const [table, setTable] = useState(false);
  const charts = useRef<EChartsType[]>([]);
  const chosen = selection.value;
  if (!x || !y || !c) return null;
  const [xe, ye, ce] = [ends(x, rows.n, true), ends(y, rows.n, true), ends(c, rows.n, true)];
  const option = (): EChartsCoreOption => {
    const shown = (i: number): boolean => Number.isFinite(x.data[i]!) && Number.isFinite(y.data[i]!);
    const inside = (c: Column, e: Scales["x"]) => (i: number): number => Math.min(Math.max(c.data[i]!, e.low), e.high);
    const buckets = new Map<number, number[]>();
    for (let i = 0; i < rows.n; i++) {
      if (!shown(i)) continue;
      const key = chosen.on && !chosen.mask[i] ? -1 : level(c, ce, i);
      const bucket = buckets.get(key);
      if (bucket) bucket.push(i);
      else buckets.set(key, [i]);
    }
    return {
      ...frame(),
      xAxis: axisOf(x, xe, xName, false),
      yAxis: axisOf(y, ye, yName, true),
      series: [...buckets].sort(([a], [b]) => a - b).map(([key, list]) => ({
        type: "scatter", name: String(key), z: key < 0 ? 1 : 2, large: rows.n > MANY, largeThreshold: 1,
        symbolSize: rows.n > MANY ? 3.5 : 7,
        ...flat(list, inside(x, xe), inside(y, ye)),
        itemStyle: { color: key < 0 ? colour("muted") : c.labels ? colour(`s${key % 8}`) : viridis(dark.value ? 0.2 + (key / 11) * 0.8 : (key / 11) * 0.88), opacity: key < 0 ? 0.18 : 0.8 },
        tooltip: { formatter: (p: { data: number[] }) => tip(rows, p.data[2]!, goal) },
        cursor: "pointer",
      })),
    };
  };
  const options = names.map((n) => [n, n] as const);
  return (
    <Card
      title="Scatter"
      wide
      how="Each point is a trial. Draw a rectangle to choose the trials in it, on every chart at once; a click on a point opens it."
      tools={
        <>
          <Select label="Across" value={xName} options={options} onChange={(v) => choose({ sx: v })} />
          <Select label="Up" value={yName} options={options} onChange={(v) => choose({ sy: v })} />
          <Select label="Colour" value={cName} options={options} onChange={(v) => choose({ sc: v })} />
          {!table && <Files charts={charts.current} name={`${rows.name} scatter`} />}
          <AsTable on={table} onChange={setTable} />
        </>
      }
    >
      {table ? (
        <TrialTable name="Scatter" rows={rows} height={360} fixed={[...new Set(["trial", xName, yName, cName])]} />
      ) : (
        <Plot
          option={option}
          height={340}
          label={`${yName} against ${xName}, coloured by ${cName}; ${rows.n} trials.`}
          on={[rows, xName, yName, cName, chosen]}
          onReady={(chart) => {
            charts.current[0] = chart;
            rectangle(chart, (from, to) => brushBoth(xName, span2(from[0], to[0]), yName, span2(from[1], to[1])));
          }}
          onClick={({ data }) => Array.isArray(data) && go(to(rows.name, `trial/${rows.number[data[2] as number]}`))}
        />
      )}
    </Card>
  );
}

function span2(a: number, b: number): [number, number] {
  return a < b ? [a, b] : [b, a];
}

/** Where a row's colour is: a category, or one of twelve levels. */
function level(c: Column, e: Scales["x"], i: number): number {
  const v = c.data[i]!;
  if (Number.isNaN(v)) return 0;
  if (c.labels) return v;
  const [a, b, x] = e.log ? [Math.log(e.low), Math.log(e.high), Math.log(v)] : [e.low, e.high, v];
  return Math.min(11, Math.max(0, Math.floor(((x - a) / (b - a)) * 12)));
}

/** Calls back with the corners, in the units of the axes, of a rectangle that somebody drew. */
function rectangle(chart: EChartsType, done: (from: [number, number], to: [number, number]) => void): void {
  const pen = chart.getZr();
  let from: [number, number] | null = null;
  const units = (p: [number, number]): [number, number] => chart.convertFromPixel({ gridIndex: 0 }, p) as [number, number];
  pen.on("mousedown", (e) => {
    from = [e.offsetX, e.offsetY];
  });
  pen.on("mouseup", (e) => {
    if (from && Math.abs(e.offsetX - from[0]) > 6 && Math.abs(e.offsetY - from[1]) > 6) {
      done(units(from), units([e.offsetX, e.offsetY]));
    }
    from = null;
  });
}
