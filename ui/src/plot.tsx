// One drawing surface: an ECharts instance that follows its size and the colours of the page.

import type { EChartsCoreOption, EChartsType } from "echarts/core";
import { useEffect, useRef } from "preact/hooks";
import { dark } from "./theme.ts";

type Library = typeof import("echarts");

const REST = 200; // milliseconds without a change before the next drawing

let library: Promise<Library> | null = null;

/** The library, loaded when the first chart needs it. */
export function loaded(): Promise<Library> {
  library ??= import("echarts");
  return library;
}

export interface Click {
  series: string;
  index: number;
  data: unknown;
}

interface Props {
  /** Makes what is drawn; called again when the colours change. */
  option: () => EChartsCoreOption;
  height: number;
  /** What the picture shows, for those who do not see it. */
  label: string;
  onClick?: (click: Click) => void;
  onReady?: (chart: EChartsType) => void;
  /** What ``option`` depends on. */
  on: unknown[];
}

/** Draws; the canvas itself is hidden from screen readers, which get the label. */
export function Plot({ option, height, label, onClick, onReady, on }: Props) {
  const place = useRef<HTMLDivElement>(null);
  const chart = useRef<EChartsType | null>(null);
  const click = useRef(onClick);
  click.current = onClick;
  const night = dark.value;
  useEffect(() => {
    const element = place.current;
    if (!element) return;
    let gone = false;
    let observer: ResizeObserver | null = null;
    void loaded().then((echarts) => {
      if (gone) return;
      const made = echarts.init(element, null, { renderer: "canvas", height });
      chart.current = made;
      made.on("click", (event) => {
        click.current?.({ series: event.seriesName ?? "", index: event.dataIndex, data: event.data });
      });
      made.setOption(option(), { notMerge: true, lazyUpdate: false });
      // The first call comes at once and would draw everything a second time.
      observer = new ResizeObserver(() => made.getWidth() !== element.clientWidth && made.resize());
      observer.observe(element);
      onReady?.(made);
    });
    return () => {
      gone = true;
      observer?.disconnect();
      chart.current?.dispose();
      chart.current = null;
    };
  }, [height]);
  const drawn = useRef(0);
  useEffect(() => {
    const timer = window.setTimeout(
      () => {
        drawn.current = performance.now();
        chart.current?.setOption(option(), { notMerge: true, lazyUpdate: true });
      },
      // While a brush is dragged, wait until it rests.
      performance.now() - drawn.current < REST ? REST : 0,
    );
    drawn.current = performance.now();
    return () => window.clearTimeout(timer);
  }, [night, ...on]);
  return <div class="plot" style={{ height: `${height}px` }} role="img" aria-label={label} ref={place} />;
}
