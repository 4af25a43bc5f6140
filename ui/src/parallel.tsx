// Parallel coordinates on a canvas of our own: one axis per column, one line per trial.
//
// Lines are drawn in slices that fit a frame, dim ones first and the best on top, so that the page never freezes. A
// drag along an axis is a brush; a drag of its name, or the arrow keys on it, moves the axis. A trial without a value on
// an axis passes below it as a dashed stub.

import { useEffect, useMemo, useRef } from "preact/hooks";
import { asked, choose, go, to } from "./route.ts";
import type { Column, Rows } from "./rows.ts";
import { column, robust } from "./rows.ts";
import { brush, brushes, pointed, selection } from "./study.ts";
import { colour, dark, viridis } from "./theme.ts";
import { brief } from "./words.ts";

const TOP = 46;
const BOTTOM = 40;
const SIDE = 34;
const STUB = 22;
const SLICE = 8; // milliseconds of drawing at a time
const LATE = 45; // milliseconds from frame to frame that are too many
const EARLY = 25;
const BEST = 0.05;

// Segments drawn in a frame. Strokes are only noted down when they are made; painting them takes its time later, so what
// a frame can hold is learnt from how late the next one comes.
let pace = 4000;

interface Scale {
  column: Column;
  low: number;
  high: number;
  log: boolean;
  at: Float32Array; // position of every row in [0, 1], NaN for none
}

function scale(column: Column, n: number, metric: boolean): Scale {
  let { low, high } = { low: column.low ?? Infinity, high: column.high ?? -Infinity };
  let log = column.log;
  if (column.labels) [low, high] = [0, Math.max(1, column.labels.length - 1)];
  else if (column.low === null || column.high === null) {
    const ends = metric ? robust(column.data.subarray(0, n)) : null;
    if (ends) ({ low, high } = ends);
    else for (let i = 0; i < n; i++) if (!Number.isNaN(column.data[i]!)) [low, high] = [Math.min(low, column.data[i]!), Math.max(high, column.data[i]!)];
    log = low > 0 && high / low > 100;
  }
  if (!(high > low)) [low, high] = [low - 0.5, high + 0.5];
  const [a, b] = log ? [Math.log(low), Math.log(high)] : [low, high];
  const at = new Float32Array(n);
  for (let i = 0; i < n; i++) {
    const v = column.data[i]!;
    at[i] = Number.isNaN(v) ? NaN : Math.min(1, Math.max(0, ((log ? Math.log(v) : v) - a) / (b - a)));
  }
  return { column, low, high, log, at };
}

function value(s: Scale, at: number): number {
  return s.log ? Math.exp(Math.log(s.low) + at * (Math.log(s.high) - Math.log(s.low))) : s.low + at * (s.high - s.low);
}

/** The columns in the order of the axes. */
function order(rows: Rows, wanted: string): string[] {
  const all = [...rows.params.filter((p) => p.kind !== "other").map((p) => p.name), ...rows.objectives.map((o) => o.name)];
  const first = wanted.split("~").filter((n) => all.includes(n));
  return [...first, ...all.filter((n) => !first.includes(n))];
}

export function Parallel({ rows }: { rows: Rows }) {
  const place = useRef<HTMLDivElement>(null);
  const below = useRef<HTMLCanvasElement>(null);
  const above = useRef<HTMLCanvasElement>(null);
  const names = order(rows, asked("axes"));
  const goal = rows.objectives[0];
  const scales = useMemo(
    () => names.flatMap((n) => { const c = column(rows, n); return c ? [scale(c, rows.n, rows.values.has(n))] : []; }),
    [rows, names.join("~")],
  );
  const ranked = useMemo(() => rank(rows), [rows]);
  const chosen = selection.value;
  const night = dark.value;
  const ranges = brushes.value;

  useEffect(() => {
    const [canvas, box] = [below.current, place.current];
    if (!canvas || !box) return;
    let stop = (): void => undefined;
    const paint = (): void => {
      stop();
      stop = draw(canvas, box.clientWidth, box.clientHeight, scales, ranked, chosen.on ? chosen.mask : null);
    };
    paint();
    const observer = new ResizeObserver(paint);
    observer.observe(box);
    return () => {
      stop();
      observer.disconnect();
    };
  }, [scales, ranked, chosen, night]);

  useEffect(() => {
    const [canvas, box] = [above.current, place.current];
    if (canvas && box) highlight(canvas, box.clientWidth, box.clientHeight, scales, pointed.value);
  }, [pointed.value, scales, night]);

  const move = (from: number, by: number): void => {
    const next = [...names];
    const [taken] = next.splice(from, 1);
    next.splice(Math.min(Math.max(from + by, 0), next.length), 0, taken!);
    choose({ axes: next.join("~") });
  };

  return (
    <div class="scroll sideways" tabIndex={0} role="region" aria-label="Parallel coordinates; scroll sideways for more axes">
      <div class="parallel" ref={place} style={{ minWidth: `${Math.max(names.length * 62, 280)}px` }}>
        <canvas ref={below} aria-hidden="true" />
        <canvas
          ref={above}
          role="img"
          aria-label={`Parallel coordinates of ${rows.n} trials over ${names.length} axes, coloured by ${goal?.name ?? "order"}. ${chosen.size} are chosen.`}
          onPointerMove={(e) => (pointed.value = nearest(e, scales, chosen.on ? chosen.mask : null))}
          onPointerLeave={() => (pointed.value = -1)}
          onPointerDown={(e) => drag(e, scales, rows)}
        />
        {scales.map((s, i) => (
          <AxisHead key={s.column.name} scale={s} index={i} of={scales.length} range={ranges[s.column.name]} move={move} />
        ))}
      </div>
    </div>
  );
}

function AxisHead({ scale: s, index, of, range, move }: { scale: Scale; index: number; of: number; range: [number, number] | undefined; move: (from: number, by: number) => void }) {
  const name = s.column.name;
  const left = { left: `calc(${SIDE}px + (100% - ${2 * SIDE}px) * ${of > 1 ? index / (of - 1) : 0.5})` };
  const text = (v: number): string => (s.column.labels ? (s.column.labels[Math.round(v)] ?? "") : brief(v));
  return (
    <>
      <div class="axis-head" style={left}>
        <button
          type="button"
          class="axis-name"
          title={name}
          draggable
          aria-label={`Axis ${name}${range ? `, between ${brief(range[0])} and ${brief(range[1])}` : ""}. Left and right arrows move it; Escape lifts its range.`}
          onDragStart={(e) => e.dataTransfer?.setData("text/plain", String(index))}
          onDragOver={(e) => e.preventDefault()}
          onDrop={(e) => {
            e.preventDefault();
            const from = Number(e.dataTransfer?.getData("text/plain"));
            if (Number.isInteger(from)) move(from, index - from);
          }}
          onKeyDown={(e) => {
            if (e.key === "ArrowLeft") move(index, -1);
            else if (e.key === "ArrowRight") move(index, 1);
            else if (e.key === "Escape") brush(name, null);
            else if (e.key === "ArrowUp" || e.key === "ArrowDown") {
              e.preventDefault();
              narrow(s, range, e.key === "ArrowUp");
            }
          }}
        >
          {name}
        </button>
        <span class="axis-end">{text(s.high)}</span>
      </div>
      <span class="axis-end axis-low" style={left}>
        {text(s.low)}
      </span>
      {range && <Range scale={s} range={range} left={left} />}
    </>
  );
}

/** By the keyboard a brush takes a tenth off below, or gives it back. */
function narrow(s: Scale, range: [number, number] | undefined, up: boolean): void {
  const now = range ? position(s, range[0]) : 0;
  const next = Math.round((now + (up ? 0.1 : -0.1)) * 10) / 10;
  brush(s.column.name, next <= 0 ? null : [value(s, Math.min(next, 0.9)), range?.[1] ?? s.high]);
}

function position(s: Scale, v: number): number {
  const [a, b, x] = s.log ? [Math.log(s.low), Math.log(s.high), Math.log(v)] : [s.low, s.high, v];
  return Math.min(1, Math.max(0, (x - a) / (b - a)));
}

function Range({ scale: s, range, left }: { scale: Scale; range: [number, number]; left: { left: string } }) {
  const [a, b] = [position(s, range[0]), position(s, range[1])];
  const style = { ...left, top: `calc(${TOP}px + (100% - ${TOP + BOTTOM}px) * ${1 - b})`, height: `calc((100% - ${TOP + BOTTOM}px) * ${b - a})` };
  return <div class="axis-range" style={style} aria-hidden="true" />;
}

/** Rows from worst to best, and where each stands in [0, 1]. */
function rank(rows: Rows): { line: Uint32Array; place: Float32Array } {
  const goal = rows.objectives[0];
  const data = goal ? rows.values.get(goal.name) : undefined;
  const line = Uint32Array.from({ length: rows.n }, (_, i) => i);
  const place = new Float32Array(rows.n).fill(-1);
  if (!goal || !data) return { line, place };
  const sign = goal.goal === "maximize" ? -1 : 1;
  const loss = Float64Array.from({ length: rows.n }, (_, i) => (Number.isNaN(data[i]!) ? Infinity : sign * data[i]!));
  line.sort((a, b) => loss[b]! - loss[a]! || a - b);
  const known = line.filter((i) => loss[i] !== Infinity);
  known.forEach((row, i) => (place[row] = known.length > 1 ? i / (known.length - 1) : 1));
  return { line, place };
}

function sized(canvas: HTMLCanvasElement, width: number, height: number): CanvasRenderingContext2D | null {
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  canvas.width = Math.round(width * ratio);
  canvas.height = Math.round(height * ratio);
  const context = canvas.getContext("2d");
  context?.scale(ratio, ratio);
  return context;
}

function spots(scales: Scale[], width: number): number[] {
  return scales.map((_, i) => (scales.length > 1 ? SIDE + ((width - 2 * SIDE) * i) / (scales.length - 1) : width / 2));
}

/** Draws all lines, some milliseconds at a time; returns what stops it. */
function draw(canvas: HTMLCanvasElement, width: number, height: number, scales: Scale[], ranked: { line: Uint32Array; place: Float32Array }, mask: Uint8Array | null): () => void {
  const pen = sized(canvas, width, height);
  if (!pen || !scales.length) return () => undefined;
  const xs = spots(scales, width);
  const body = height - TOP - BOTTOM;
  const { line, place } = ranked;
  const n = line.length;
  const faint = Math.min(0.5, Math.max(0.05, 60 / Math.sqrt(n + 1) / 10));
  pen.lineWidth = n > 2000 ? 0.8 : 1.1;
  // First what is not chosen, then the rest, then the best: later lines cover earlier ones.
  const rounds: ((row: number) => boolean)[] = [
    (row) => mask !== null && !mask[row],
    (row) => (mask === null || mask[row] === 1) && place[row]! < 1 - BEST,
    (row) => (mask === null || mask[row] === 1) && place[row]! >= 1 - BEST,
  ];
  let [round, i, frame, before] = [0, 0, 0, 0];
  const step = (): void => {
    const now = performance.now();
    if (before && now - before > LATE) pace = Math.max(1000, pace * 0.6);
    else if (before && now - before < EARLY) pace = Math.min(200_000, pace * 1.5);
    before = now;
    let room = Math.ceil(pace / xs.length);
    while (round < rounds.length) {
      for (; i < n; i++) {
        const row = line[i]!;
        if (!rounds[round]!(row)) continue;
        pen.globalAlpha = round === 0 ? faint * 0.3 : round === 1 ? (mask ? Math.max(faint, 0.3) : faint) : 0.9;
        pen.strokeStyle = round === 0 ? colour("muted") : place[row]! < 0 ? colour("failed") : shade(place[row]!);
        trace(pen, scales, xs, row, body);
        if (--room <= 0 || ((room & 15) === 0 && performance.now() > now + SLICE)) {
          i++;
          frame = requestAnimationFrame(step);
          return;
        }
      }
      round++;
      i = 0;
    }
    axes(pen, xs, height);
    canvas.dataset["drawn"] = String(n);
  };
  delete canvas.dataset["drawn"];
  axes(pen, xs, height);
  frame = requestAnimationFrame(step);
  return () => cancelAnimationFrame(frame);
}

const SHADES: string[] = [];

/** Viridis in 64 shades; on light paper without its palest end. */
function shade(at: number): string {
  const key = (dark.peek() ? 64 : 0) + Math.min(63, Math.floor(at * 64));
  return (SHADES[key] ??= viridis(dark.peek() ? 0.2 + at * 0.8 : at * 0.86));
}

function trace(pen: CanvasRenderingContext2D, scales: Scale[], xs: number[], row: number, body: number): void {
  pen.beginPath();
  let open = false;
  for (let k = 0; k < xs.length; k++) {
    const at = scales[k]!.at[row]!;
    const y = Number.isNaN(at) ? TOP + body + STUB : TOP + body * (1 - at);
    if (open) pen.lineTo(xs[k]!, y);
    else pen.moveTo(xs[k]!, y);
    open = true;
  }
  pen.stroke();
}

function axes(pen: CanvasRenderingContext2D, xs: number[], height: number): void {
  pen.globalAlpha = 1;
  pen.strokeStyle = colour("text");
  pen.lineWidth = 1;
  for (const x of xs) {
    pen.beginPath();
    pen.moveTo(x, TOP);
    pen.lineTo(x, height - BOTTOM);
    pen.stroke();
    pen.save();
    pen.setLineDash([3, 3]);
    pen.globalAlpha = 0.5;
    pen.beginPath();
    pen.moveTo(x, height - BOTTOM);
    pen.lineTo(x, height - BOTTOM + STUB);
    pen.stroke();
    pen.restore();
  }
}

function highlight(canvas: HTMLCanvasElement, width: number, height: number, scales: Scale[], row: number): void {
  const pen = sized(canvas, width, height);
  if (!pen || row < 0 || !scales.length || row >= scales[0]!.at.length) return;
  pen.lineWidth = 2.5;
  pen.strokeStyle = colour("mark");
  trace(pen, scales, spots(scales, width), row, height - TOP - BOTTOM);
}

/** The line nearest to the pointer within some pixels, -1 for none. */
function nearest(event: PointerEvent, scales: Scale[], mask: Uint8Array | null): number {
  const box = (event.currentTarget as Element).getBoundingClientRect();
  const xs = spots(scales, box.width);
  const [x, y] = [event.clientX - box.left, event.clientY - box.top];
  const k = Math.min(Math.max(xs.findIndex((v) => v > x) - 1, 0), xs.length - 2);
  if (xs.length < 2) return -1;
  const t = (x - xs[k]!) / (xs[k + 1]! - xs[k]!);
  const body = box.height - TOP - BOTTOM;
  const [a, b] = [scales[k]!.at, scales[k + 1]!.at];
  let [best, found] = [6, -1];
  for (let row = 0; row < a.length; row++) {
    if (mask && !mask[row]) continue;
    const [p, q] = [a[row]!, b[row]!];
    const ya = Number.isNaN(p) ? body + STUB : body * (1 - p);
    const yb = Number.isNaN(q) ? body + STUB : body * (1 - q);
    const gap = Math.abs(TOP + ya + t * (yb - ya) - y);
    if (gap < best) [best, found] = [gap, row];
  }
  return found;
}

/** A drag near an axis is a brush, a click on it lifts the brush; a click on a line opens its trial. */
function drag(event: PointerEvent, scales: Scale[], rows: Rows): void {
  const canvas = event.currentTarget as HTMLCanvasElement;
  const box = canvas.getBoundingClientRect();
  const xs = spots(scales, box.width);
  const x = event.clientX - box.left;
  const k = xs.reduce((best, v, i) => (Math.abs(v - x) < Math.abs(xs[best]! - x) ? i : best), 0);
  const s = scales[k];
  if (!s) return;
  if (Math.abs(xs[k]! - x) > 14) {
    if (pointed.value >= 0) go(to(rows.name, `trial/${rows.number[pointed.value]}`));
    return;
  }
  const at = (e: PointerEvent): number => Math.min(1, Math.max(0, 1 - (e.clientY - box.top - TOP) / (box.height - TOP - BOTTOM)));
  const from = at(event);
  canvas.setPointerCapture(event.pointerId);
  let [until, frame] = [from, 0];
  const onMove = (e: PointerEvent): void => {
    until = at(e);
    frame ||= requestAnimationFrame(() => {
      frame = 0;
      reach(s, from, until);
    });
  };
  const onUp = (e: PointerEvent): void => {
    canvas.removeEventListener("pointermove", onMove);
    if (Math.abs(at(e) - from) < 0.01) brush(s.column.name, null);
  };
  canvas.addEventListener("pointermove", onMove);
  canvas.addEventListener("pointerup", onUp, { once: true });
}

function reach(s: Scale, from: number, to: number): void {
  if (Math.abs(to - from) < 0.01) return;
  const [a, b] = from < to ? [from, to] : [to, from];
  if (s.column.labels) {
    const last = s.column.labels.length - 1;
    brush(s.column.name, [Math.ceil(a * last - 0.35), Math.floor(b * last + 0.35)]);
  } else brush(s.column.name, [value(s, a), value(s, b)]);
}
