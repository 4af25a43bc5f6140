import { Fragment as _Fragment, jsx as _jsx, jsxs as _jsxs } from "preact/jsx-runtime";
import { useEffect, useRef, useState } from "preact/hooks";
import { Refusal, get, of } from "./api.js";
import { panelOption } from "./marks.js";
import { Plot, loaded } from "./plot.js";
import { go, href, to } from "./route.js";
import { pointed, rows, selection } from "./study.js";
import { colour, opacity } from "./theme.js";
import { AsTable, Card, Empty, save, useSeen } from "./ui.js";
import { brief } from "./words.js";
/** A figure in its card, with its table and its files. */
export function Drawn({ figure, study, tools }) {
    const [table, setTable] = useState(false);
    const charts = useRef([]);
    const panels = figure.panels ?? [];
    const name = study ? `${study} ${figure.kind}` : figure.kind;
    return (_jsx(Card, { title: figure.title, how: figure.how, insight: figure.insight, tools: _jsxs(_Fragment, { children: [tools, !table && _jsx(Files, { charts: charts.current, name: name }), figure.table.length > 0 && _jsx(AsTable, { on: table, onChange: setTable })] }), children: table ? (_jsx(FigureTable, { figure: figure, study: study })) : (_jsxs(_Fragment, { children: [_jsx("div", { class: figure.columns > 1 ? "panels" : "", children: panels.map((panel, i) => (_jsx(PanelPlot, { panel: panel, title: figure.title, study: study, onReady: (c) => (charts.current[i] = c) }, i))) }), _jsx(Legend, { entries: figure.legend }), _jsx(Hidden, { panels: panels })] })) }));
}
function PanelPlot({ panel, title, study, onReady }) {
    const chosen = study && rows.value?.name === study ? selection.value : null;
    const option = () => panelOption(panel, chosen?.on ? chosen.mask : null);
    const head = panel.title ? `${panel.title}. ` : "";
    return (_jsxs("figure", { class: "panel", children: [panel.title && _jsx("figcaption", { children: panel.title }), _jsx(Plot, { option: option, height: panel.height + 66, label: `${head}${title}: ${panel.y.label || "value"} against ${panel.x.label || "value"}`, on: [panel, chosen?.on ? chosen.mask : null], onReady: onReady, onClick: (click) => {
                    const trial = click.data?.trial;
                    if (study && trial !== undefined) {
                        pointed.value = trial;
                        go(to(study, `trial/${trial}`));
                    }
                } })] }));
}
function Legend({ entries }) {
    if (!entries.length)
        return null;
    return (_jsx("ul", { class: "legend small", children: entries.map(([style, words]) => (_jsxs("li", { children: [_jsx("svg", { width: "14", height: "10", "aria-hidden": "true", children: _jsx("circle", { cx: "7", cy: "5", r: "4", fill: style.includes("hollow") ? "none" : colour(style), stroke: colour(style), "stroke-width": "1.5", opacity: opacity(style) }) }), words] }, words))) }));
}
function Hidden({ panels }) {
    const hidden = panels.reduce((n, p) => Math.max(n, p.x.clipped + p.y.clipped), 0);
    return hidden ? _jsxs("p", { class: "small muted", children: [hidden, " outliers are drawn at the edge."] }) : null;
}
function FigureTable({ figure, study }) {
    const trial = figure.head.indexOf("trial");
    return (_jsx("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": `${figure.title} as a table`, children: _jsxs("table", { children: [_jsx("thead", { children: _jsx("tr", { children: figure.head.map((h) => (_jsx("th", { scope: "col", children: h }, h))) }) }), _jsx("tbody", { children: figure.table.map((row, i) => (_jsx("tr", { children: row.map((cell, j) => (_jsx("td", { class: /^[-+\d.,e%–∞]+$/.test(cell) ? "right number" : "", children: j === trial && study && /^\d+$/.test(cell) ? _jsx("a", { href: href(to(study, `trial/${cell}`)), children: cell }) : cell }, j))) }, i))) })] }) }));
}
/** Buttons that keep a chart as a picture. */
export function Files({ charts, name }) {
    async function keep(kind) {
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
    return (_jsxs(_Fragment, { children: [_jsx("button", { type: "button", class: "plain", onClick: () => void keep("png"), "aria-label": "Save as PNG", children: "PNG" }), _jsx("button", { type: "button", class: "plain", onClick: () => void keep("svg"), "aria-label": "Save as SVG", children: "SVG" })] }));
}
const SLOW = 3000; // milliseconds between two looks at a figure that has to be computed
/** A figure of a study, asked for when it comes into view and again when the study has changed. */
export function FigureCard({ study, kind, query, title, tools, lazy }) {
    const [place, seen] = useSeen(!lazy);
    const [found, setFound] = useState(null);
    const last = useRef(0);
    const asked = new URLSearchParams(query).toString();
    const path = of(study, `/charts/${kind}${asked ? `?${asked}` : ""}`);
    const rev = rows.value?.name === study ? rows.value.rev : 0;
    useEffect(() => {
        if (!seen)
            return;
        const stop = new AbortController();
        const timer = window.setTimeout(() => {
            last.current = Date.now();
            get(path, stop.signal).then(setFound, (e) => e instanceof Refusal && setFound(e));
        }, Math.max(0, last.current + SLOW - Date.now()));
        return () => {
            window.clearTimeout(timer);
            stop.abort();
        };
    }, [path, seen, rev]);
    useEffect(() => {
        last.current = 0;
    }, [path]);
    if (found && !(found instanceof Refusal))
        return _jsx(Drawn, { figure: found, study: study, tools: tools });
    return (_jsx("div", { ref: place, children: _jsx(Card, { title: title ?? kind.charAt(0).toUpperCase() + kind.slice(1), tools: tools, children: _jsx(Empty, { children: found ? found.message : "…" }) }) }));
}
/** Text of a value with its unit. */
export function valued(value, unit) {
    return unit ? `${brief(value)} ${unit}` : brief(value);
}
