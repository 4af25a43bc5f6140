// Figures as the server makes them: the same data that Matplotlib, Plotly and the SVG files draw.

import type { EChartsCoreOption, EChartsType } from "echarts/core";
import { useEffect, useRef, useState } from "preact/hooks";
import { Refusal, get, of } from "./api.ts";
import { panelOption } from "./marks.ts";
import { Plot, loaded } from "./plot.tsx";
import { go, href, to } from "./route.ts";
import { pointed, rows, selection } from "./study.ts";
import { colour, opacity } from "./theme.ts";
import { AsTable, Card, Empty, save, useSeen } from "./ui.tsx";
import { brief } from "./words.ts";

export interface Axis {
  label: string;
  kind: "linear" | "log" | "names";
  low: number;
  high: number;
  names: string[] | null;
  clipped: number;
}

export type Point = [number, number];

export type Mark =
  | { type: "line"; style: string; points: (Point | null)[]; name?: string; trial?: number }
  | { type: "band"; style: string; x: number[]; low: number[]; high: number[] }
  | { type: "dots"; style: string | string[]; points: (Point | null)[]; trials: number[] | null; tips: string[]; radius: number }
  | { type: "box"; style: string; x0: number; y0: number; x1: number; y1: number; tip: string; trial?: number }
  | { type: "heat"; x: number[]; y: number[]; z: (number | null)[][]; low: number; high: number; label: string }
  | { type: "contour"; level: number; lines: (Point | null)[][]; style?: string }
  | { type: "bars"; style: string; at: number[]; value: number[]; low: (number | null)[]; high: (number | null)[]; tips: string[]; horizontal?: boolean };

export interface Panel {
  title: string;
  height: number;
  x: Axis;
  y: Axis;
  marks: Mark[];
}

export interface Figure {
  kind: string;
  title: string;
  how: string;
  insight: string;
  columns: number;
  legend: [string, string][];
  head: string[];
  table: string[][];
  panels?: Panel[];
  rows?: { axes: Axis[]; lines: (number | null)[][]; styles: string[]; tips: string[]; trials: number[] };
}

interface DrawnProps {
  figure: Figure;
  /** The study that trials in the figure belong to; without it clicks lead nowhere. */
  study?: string;
  tools?: preact.ComponentChildren;
}

/** A figure in its card, with its table and its files. */
export function Drawn({ figure, study, tools }: DrawnProps) {
  const [table, setTable] = useState(false);
  const charts = useRef<EChartsType[]>([]);
  const panels = figure.panels ?? [];
  const name = study ? `${study} ${figure.kind}` : figure.kind;
  return (
    <Card
      title={figure.title}
      how={figure.how}
      insight={figure.insight}
      tools={
        <>
          {tools}
          {!table && <Files charts={charts.current} name={name} />}
          {figure.table.length > 0 && <AsTable on={table} onChange={setTable} />}
        </>
      }
    >
      {table ? (
        <FigureTable figure={figure} study={study} />
      ) : (
        <>
          <div class={figure.columns > 1 ? "panels" : ""}>
            {panels.map((panel, i) => (
              <PanelPlot key={i} panel={panel} title={figure.title} study={study} onReady={(c) => (charts.current[i] = c)} />
            ))}
          </div>
          <Legend entries={figure.legend} />
          <Hidden panels={panels} />
        </>
      )}
    </Card>
  );
}

function PanelPlot({ panel, title, study, onReady }: { panel: Panel; title: string; study: string | undefined; onReady: (chart: EChartsType) => void }) {
  const chosen = study && rows.value?.name === study ? selection.value : null;
  const option = (): EChartsCoreOption => panelOption(panel, chosen?.on ? chosen.mask : null);
  const head = panel.title ? `${panel.title}. ` : "";
  return (
    <figure class="panel">
      {panel.title && <figcaption>{panel.title}</figcaption>}
      <Plot
        option={option}
        height={panel.height + 66}
        label={`${head}${title}: ${panel.y.label || "value"} against ${panel.x.label || "value"}`}
        on={[panel, chosen?.on ? chosen.mask : null]}
        onReady={onReady}
        onClick={(click) => {
          const trial = (click.data as { trial?: number } | null)?.trial;
          if (study && trial !== undefined) {
            pointed.value = trial;
            go(to(study, `trial/${trial}`));
          }
        }}
      />
    </figure>
  );
}

function Legend({ entries }: { entries: [string, string][] }) {
  if (!entries.length) return null;
  return (
    <ul class="legend small">
      {entries.map(([style, words]) => (
        <li key={words}>
          <svg width="14" height="10" aria-hidden="true">
            <circle
              cx="7"
              cy="5"
              r="4"
              fill={style.includes("hollow") ? "none" : colour(style)}
              stroke={colour(style)}
              stroke-width="1.5"
              opacity={opacity(style)}
            />
          </svg>
          {words}
        </li>
      ))}
    </ul>
  );
}

function Hidden({ panels }: { panels: Panel[] }) {
  const hidden = panels.reduce((n, p) => Math.max(n, p.x.clipped + p.y.clipped), 0);
  return hidden ? <p class="small muted">{hidden} outliers are drawn at the edge.</p> : null;
}

function FigureTable({ figure, study }: { figure: Figure; study: string | undefined }) {
  const trial = figure.head.indexOf("trial");
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label={`${figure.title} as a table`}>
      <table>
        <thead>
          <tr>
            {figure.head.map((h) => (
              <th key={h} scope="col">
                {h}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {figure.table.map((row, i) => (
            <tr key={i}>
              {row.map((cell, j) => (
                <td key={j} class={/^[-+\d.,e%–∞]+$/.test(cell) ? "right number" : ""}>
                  {j === trial && study && /^\d+$/.test(cell) ? <a href={href(to(study, `trial/${cell}`))}>{cell}</a> : cell}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** Buttons that keep a chart as a picture. */
export function Files({ charts, name }: { charts: EChartsType[]; name: string }) {
  async function keep(kind: "png" | "svg"): Promise<void> {
    const echarts = await loaded();
    charts.forEach((chart, i) => {
      const file = `${name}${charts.length > 1 ? `-${i + 1}` : ""}.${kind}`;
      if (kind === "png") {
        save(file, chart.getDataURL({ type: "png", pixelRatio: 2, backgroundColor: colour("paper") }));
        return;
      }
      const place = document.createElement("div");
      const twin = echarts.init(place, null, { renderer: "svg", ssr: true, width: chart.getWidth(), height: chart.getHeight() });
      twin.setOption(chart.getOption());
      save(file, new Blob([twin.renderToSVGString()], { type: "image/svg+xml" }));
      twin.dispose();
    });
  }
  return (
    <>
      <button type="button" class="plain" onClick={() => void keep("png")} aria-label="Save as PNG">
        PNG
      </button>
      <button type="button" class="plain" onClick={() => void keep("svg")} aria-label="Save as SVG">
        SVG
      </button>
    </>
  );
}

interface FigureProps {
  study: string;
  kind: string;
  query?: Record<string, string>;
  title?: string;
  tools?: preact.ComponentChildren;
  /** Whether to ask for it only once it is near the window. */
  lazy?: boolean;
}

const SLOW = 3000; // milliseconds between two looks at a figure that has to be computed

/** A figure of a study, asked for when it comes into view and again when the study has changed. */
export function FigureCard({ study, kind, query, title, tools, lazy }: FigureProps) {
  const [place, seen] = useSeen<HTMLDivElement>(!lazy);
  const [found, setFound] = useState<Figure | Refusal | null>(null);
  const last = useRef(0);
  const asked = new URLSearchParams(query).toString();
  const path = of(study, `/charts/${kind}${asked ? `?${asked}` : ""}`);
  const rev = rows.value?.name === study ? rows.value.rev : 0;
  useEffect(() => {
    if (!seen) return;
    const stop = new AbortController();
    const timer = window.setTimeout(
      () => {
        last.current = Date.now();
        get<Figure>(path, stop.signal).then(setFound, (e: unknown) => e instanceof Refusal && setFound(e));
      },
      Math.max(0, last.current + SLOW - Date.now()),
    );
    return () => {
      window.clearTimeout(timer);
      stop.abort();
    };
  }, [path, seen, rev]);
  useEffect(() => {
    last.current = 0;
  }, [path]);
  if (found && !(found instanceof Refusal)) return <Drawn figure={found} study={study} tools={tools} />;
  return (
    <div ref={place}>
      <Card title={title ?? kind.charAt(0).toUpperCase() + kind.slice(1)} tools={tools}>
        <Empty>{found ? found.message : "…"}</Empty>
      </Card>
    </div>
  );
}

/** Text of a value with its unit. */
export function valued(value: number | null, unit: string): string {
  return unit ? `${brief(value)} ${unit}` : brief(value);
}
