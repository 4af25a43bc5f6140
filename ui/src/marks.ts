// From a panel of a figure to what ECharts draws.

import type { EChartsCoreOption } from "echarts/core";
import type { Axis, Mark, Panel, Point } from "./figure.tsx";
import { colour, opacity } from "./theme.ts";
import { brief } from "./words.ts";

type Api = {
  value: (i: number) => number;
  coord: (p: [number, number]) => [number, number];
  size: (p: [number, number]) => [number, number];
};
type Params = { dataIndex: number; coordSys: { x: number; y: number; width: number; height: number } };

// Beyond that many points they are drawn without shapes of their own, which takes a tenth of the time.
const MANY = 400;

/** An axis that looks like the others. */
export function axisOption(axis: Axis, vertical: boolean, gap?: number): object {
  const text = colour("text");
  const shared = {
    name: axis.label,
    nameLocation: vertical ? "end" : "middle",
    nameGap: gap ?? (vertical ? 12 : 28),
    nameTextStyle: { color: text, align: vertical ? "left" : "center", fontSize: 12 },
    nameTruncate: { maxWidth: 260 },
    axisLabel: { color: text, fontSize: 11, hideOverlap: true, width: vertical ? 110 : undefined, overflow: "truncate" },
    axisLine: { show: !vertical, lineStyle: { color: colour("muted") } },
    axisTick: { show: false },
    splitLine: { show: vertical, lineStyle: { color: colour("grid") } },
  };
  if (axis.kind === "names") {
    const names = axis.names ?? [];
    return {
      ...shared,
      type: "value",
      min: axis.low,
      max: axis.high,
      interval: 1,
      splitLine: { show: false },
      axisLabel: {
        ...shared.axisLabel,
        customValues: names.map((_, i) => i),
        width: vertical ? 110 : 90,
        formatter: (v: number) => names[Math.round(v)] ?? "",
      },
    };
  }
  const log = axis.kind === "log" ? { customValues: decades(axis.low, axis.high) } : {};
  return {
    ...shared,
    type: axis.kind === "log" ? "log" : "value",
    min: axis.low,
    max: axis.high,
    axisTick: { show: false, ...log },
    axisLabel: { ...shared.axisLabel, ...log, formatter: (v: number) => brief(v), showMinLabel: axis.kind === "log" || tidy(axis.low), showMaxLabel: axis.kind === "log" || tidy(axis.high) },
  };
}

/** Up to about eight numbers such as 1, 2 and 5 times powers of ten. */
export function decades(low: number, high: number): number[] {
  const [a, b] = [Math.log10(low), Math.log10(high)];
  const wanted = b - a > 4 ? [1] : b - a > 2 ? [1, 3] : b - a > 0.5 ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9];
  const out: number[] = [];
  for (let k = Math.floor(a); k <= Math.ceil(b); k++) {
    for (const m of wanted) {
      const v = Number(`${m}e${k}`);
      if (v >= low && v <= high) out.push(v);
    }
  }
  const skip = Math.ceil(out.length / 9);
  return out.filter((_, i) => i % skip === 0);
}

/** Whether a number is round enough to be written at the end of an axis. */
function tidy(value: number): boolean {
  return value === 0 || Number(value.toPrecision(2)) === value;
}

/** The frame around every chart. */
export function frame(): object {
  return {
    animation: false,
    textStyle: { fontFamily: "inherit", color: colour("text") },
    grid: { left: 8, right: 18, top: 26, bottom: 34, containLabel: true, outerBoundsMode: "same" },
    tooltip: {
      trigger: "item",
      renderMode: "richText",
      confine: true,
      backgroundColor: colour("paper"),
      borderColor: colour("muted"),
      textStyle: { color: colour("ink"), fontSize: 12 },
    },
  };
}

/** The option of one panel; ``mask`` says which trials are chosen, null for all. */
export function panelOption(panel: Panel, mask: Uint8Array | null): EChartsCoreOption {
  const inside = clamp(panel);
  return {
    ...frame(),
    xAxis: axisOption(panel.x, false),
    yAxis: axisOption(panel.y, true),
    dataZoom: [
      { type: "inside", xAxisIndex: 0, filterMode: "none", zoomOnMouseWheel: "ctrl", moveOnMouseMove: "ctrl" },
      { type: "inside", yAxisIndex: 0, filterMode: "none", zoomOnMouseWheel: "ctrl", moveOnMouseMove: "ctrl" },
    ],
    series: together(panel.marks).flatMap((mark) => (Array.isArray(mark) ? [boxes(mark, mask)] : seriesOf(mark, inside, mask))),
  };
}

/** Marks in order, with boxes that follow each other as one, because a series costs more than a mark. */
function together(marks: Mark[]): (Mark | BoxMark[])[] {
  const out: (Mark | BoxMark[])[] = [];
  for (const mark of marks) {
    const last = out.at(-1);
    if (mark.type !== "box") out.push(mark);
    else if (Array.isArray(last)) last.push(mark);
    else out.push([mark]);
  }
  return out;
}

/** Far points are drawn at the edge. */
function clamp(panel: Panel): (p: Point) => Point {
  const { x, y } = panel;
  return ([a, b]) => [Math.min(Math.max(a, x.low), x.high), Math.min(Math.max(b, y.low), y.high)];
}

function dimmed(trial: number | undefined, mask: Uint8Array | null): number {
  return mask && trial !== undefined && !mask[trial] ? 0.12 : 1;
}

function seriesOf(mark: Mark, inside: (p: Point) => Point, mask: Uint8Array | null): object[] {
  switch (mark.type) {
    case "line":
      return [line(mark, mask)];
    case "dots":
      return dots(mark, inside, mask);
    case "band":
      return [band(mark)];
    case "box":
      return [boxes([mark], mask)];
    case "bars":
      return bars(mark);
    case "heat":
      return [heat(mark)];
    case "contour":
      return mark.lines.map((points) => line({ type: "line", style: mark.style ?? "ink faint", points }, null));
  }
}

function line(mark: Extract<Mark, { type: "line" }>, mask: Uint8Array | null): object {
  return {
    type: "line",
    name: mark.name ?? "",
    data: mark.points.map((p) => (p ? { value: p, trial: mark.trial } : { value: [null, null] })),
    showSymbol: false,
    symbolSize: 8,
    triggerLineEvent: mark.trial !== undefined,
    connectNulls: false,
    silent: mark.trial === undefined,
    lineStyle: {
      color: colour(mark.style),
      width: mark.style.includes("faint") ? 1 : 1.8,
      type: mark.style.includes("dashed") ? "dashed" : "solid",
      opacity: opacity(mark.style) * dimmed(mark.trial, mask),
    },
    itemStyle: { color: colour(mark.style) },
    tooltip: { formatter: () => (mark.trial === undefined ? (mark.name ?? "") : `trial ${mark.trial}`) },
    z: mark.style.includes("faint") ? 2 : 3,
  };
}

function dots(mark: Extract<Mark, { type: "dots" }>, inside: (p: Point) => Point, mask: Uint8Array | null): object[] {
  const groups = new Map<string, object[]>();
  mark.points.forEach((p, i) => {
    if (!p) return;
    const style = typeof mark.style === "string" ? mark.style : (mark.style[i] ?? "s0");
    const trial = mark.trials?.[i];
    const key = dimmed(trial, mask) < 1 ? `${style} dim` : style;
    const point = { value: inside(p), trial, tip: mark.tips[i] ?? "" };
    const group = groups.get(key);
    if (group) group.push(point);
    else groups.set(key, [point]);
  });
  const many = mark.points.length > MANY;
  return [...groups].map(([style, data]) => {
    const hollow = style.includes("hollow");
    return {
      type: "scatter",
      name: style,
      data,
      symbolSize: 2 * mark.radius,
      large: many,
      largeThreshold: 1,
      itemStyle: {
        color: hollow && !many ? "transparent" : colour(style),
        borderColor: colour(style),
        borderWidth: hollow ? 1.3 : 0,
        opacity: (style.endsWith(" dim") ? 0.12 : hollow && many ? 0.35 : 0.8) * opacity(style),
      },
      cursor: mark.trials ? "pointer" : "default",
      tooltip: { formatter: (p: { data: { tip: string; value: Point } }) => p.data.tip || p.data.value.map(brief).join(", ") },
      z: style.endsWith(" dim") ? 3 : 4,
    };
  });
}

function band(mark: Extract<Mark, { type: "band" }>): object {
  return {
    type: "custom",
    silent: true,
    z: 1,
    data: [[mark.x[0], mark.low[0]]],
    renderItem: (_: Params, api: Api) => ({
      type: "polygon",
      shape: {
        points: [
          ...mark.x.map((x, i) => api.coord([x, mark.low[i]!])),
          ...mark.x.map((x, i) => api.coord([x, mark.high[i]!])).reverse(),
        ],
      },
      style: { fill: colour(mark.style), opacity: 0.16 },
    }),
    clip: true,
  };
}

type BoxMark = Extract<Mark, { type: "box" }>;

function boxes(marks: BoxMark[], mask: Uint8Array | null): object {
  return {
    type: "custom",
    clip: true,
    z: 2,
    data: marks.map((m) => ({ value: [m.x0, m.y0, m.x1, m.y1], trial: m.trial, tip: m.tip })),
    tooltip: { formatter: (p: { data: { tip: string } }) => p.data.tip },
    renderItem: (params: Params, api: Api) => {
      const m = marks[params.dataIndex]!;
      const [x0, y0] = api.coord([m.x0, m.y0]);
      const [x1, y1] = api.coord([m.x1, m.y1]);
      const hollow = m.style.includes("hollow");
      return {
        type: "rect",
        shape: { x: Math.min(x0, x1), y: Math.min(y0, y1), width: Math.max(Math.abs(x1 - x0), 1), height: Math.max(Math.abs(y1 - y0), 1) },
        style: {
          fill: hollow ? "none" : colour(m.style),
          stroke: hollow ? colour(m.style) : undefined,
          opacity: 0.85 * opacity(m.style) * dimmed(m.trial, mask),
        },
      };
    },
  };
}

function bars(mark: Extract<Mark, { type: "bars" }>): object[] {
  const lying = mark.horizontal ?? false;
  const at = (i: number, v: number): [number, number] => (lying ? [v, mark.at[i]!] : [mark.at[i]!, v]);
  return [
    {
      type: "custom",
      clip: true,
      z: 2,
      data: mark.value.map((v, i) => ({ value: at(i, v), tip: mark.tips[i] ?? brief(v) })),
      tooltip: { formatter: (p: { data: { tip: string } }) => p.data.tip },
      renderItem: (params: Params, api: Api) => {
        const i = params.dataIndex;
        const [x0, y0] = api.coord(at(i, 0));
        const [x1, y1] = api.coord(at(i, mark.value[i]!));
        const thick = 0.6 * Math.abs(lying ? api.size([0, 1])[1]! : api.size([1, 0])[0]!);
        const shape = lying
          ? { x: Math.min(x0, x1), y: y1 - thick / 2, width: Math.abs(x1 - x0), height: thick }
          : { x: x1 - thick / 2, y: Math.min(y0, y1), width: thick, height: Math.abs(y1 - y0) };
        const children: object[] = [{ type: "rect", shape, style: { fill: colour(mark.style), opacity: 0.8 } }];
        const [low, high] = [mark.low[i], mark.high[i]];
        if (low != null && high != null) {
          const [ax, ay] = api.coord(at(i, low));
          const [bx, by] = api.coord(at(i, high));
          const style = { stroke: colour("ink"), lineWidth: 1.3 };
          children.push({ type: "line", shape: { x1: ax, y1: ay, x2: bx, y2: by }, style });
          for (const [x, y] of [[ax, ay], [bx, by]] as Point[]) {
            const cap = lying ? { x1: x, y1: y - 4, x2: x, y2: y + 4 } : { x1: x - 4, y1: y, x2: x + 4, y2: y };
            children.push({ type: "line", shape: cap, style });
          }
        }
        return { type: "group", children };
      },
    },
  ];
}

/** Widths of cells around their middles, in the units of an axis. */
function edges(middles: number[]): [number, number][] {
  return middles.map((m, i) => {
    const before = middles[i - 1] ?? 2 * m - (middles[i + 1] ?? m + 1);
    const after = middles[i + 1] ?? 2 * m - (middles[i - 1] ?? m - 1);
    return [(before + m) / 2, (m + after) / 2];
  });
}

function heat(mark: Extract<Mark, { type: "heat" }>): object {
  const [xs, ys] = [edges(mark.x), edges(mark.y)];
  const cells = mark.z.flatMap((row, j) => row.map((v, i) => [i, j, v] as [number, number, number | null]));
  return {
    type: "custom",
    clip: true,
    z: 1,
    data: cells.map(([i, j, v]) => ({ value: [mark.x[i], mark.y[j]], z: v })),
    tooltip: { formatter: (p: { data: { z: number | null } }) => `${mark.label} ${brief(p.data.z)}` },
    renderItem: (params: Params, api: Api) => {
      const [i, j, v] = cells[params.dataIndex]!;
      if (v === null) return undefined;
      const [x0, y0] = api.coord([xs[i]![0], ys[j]![0]]);
      const [x1, y1] = api.coord([xs[i]![1], ys[j]![1]]);
      return {
        type: "rect",
        shape: { x: Math.min(x0, x1), y: Math.min(y0, y1), width: Math.abs(x1 - x0) + 0.6, height: Math.abs(y1 - y0) + 0.6 },
        // The same shades as in figures drawn by Python, and in the legend.
        style: { fill: colour("s0"), opacity: 0.06 + (0.84 * (v - mark.low)) / (mark.high - mark.low || 1) },
      };
    },
  };
}
