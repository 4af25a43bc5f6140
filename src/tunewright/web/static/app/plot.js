import { jsx as _jsx } from "preact/jsx-runtime";
import { useEffect, useRef } from "preact/hooks";
import { dark } from "./theme.js";
const REST = 200; // milliseconds without a change before the next drawing
let library = null;
/** The library, loaded when the first chart needs it. */
export function loaded() {
    library ??= import("echarts");
    return library;
}
/** Draws; the canvas itself is hidden from screen readers, which get the label. */
export function Plot({ option, height, label, onClick, onReady, on }) {
    const place = useRef(null);
    const chart = useRef(null);
    const click = useRef(onClick);
    click.current = onClick;
    const night = dark.value;
    useEffect(() => {
        const element = place.current;
        if (!element)
            return;
        let gone = false;
        let observer = null;
        void loaded().then((echarts) => {
            if (gone)
                return;
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
        const timer = window.setTimeout(() => {
            drawn.current = performance.now();
            chart.current?.setOption(option(), { notMerge: true, lazyUpdate: true });
        }, 
        // While a brush is dragged, wait until it rests.
        performance.now() - drawn.current < REST ? REST : 0);
        drawn.current = performance.now();
        return () => window.clearTimeout(timer);
    }, [night, ...on]);
    return _jsx("div", { class: "plot", style: { height: `${height}px` }, role: "img", "aria-label": label, ref: place });
}
