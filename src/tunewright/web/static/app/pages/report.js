import { Fragment as _Fragment, jsx as _jsx, jsxs as _jsxs } from "preact/jsx-runtime";
// Report: the study on one page to print or pass on, and its data as files.
import { Empty } from "../ui.js";
import { fixed, of } from "../api.js";
import { FigureCard } from "../figure.js";
import { Lead, Table, exact, useGet } from "../parts/kit.js";
const FILES = [
    ["html", "Page (HTML)", "one file with all charts, to pass on; needs nothing else"],
    ["csv", "Table (CSV)", "one row per trial, for spreadsheets"],
    ["jsonl", "JSON lines", "one trial per line, with every measurement"],
    ["parquet", "Parquet", "one row per trial, for data frames; typed and small"],
];
const CHARTS = ["history", "pareto", "importance", "slice", "curves", "timeline"];
export function Report({ study }) {
    const base = of(study.name);
    const { data } = useGet(`${base}/overview`, study.rev);
    const { data: listed } = useGet(`${base}/charts`);
    const kinds = CHARTS.filter((kind) => listed?.some((chart) => chart.kind === kind));
    const goal = study.objectives.map((o) => `${o.goal} ${o.name}`).join(", ");
    return (_jsxs(_Fragment, { children: [_jsx(Lead, { children: "The study in short, to print or to pass on; and its data as files." }), !fixed && (_jsxs("section", { class: "card no-print", "aria-label": "Files", children: [_jsx("h2", { children: "Take it with you" }), _jsx("ul", { class: "files", children: FILES.map(([format, title, what]) => (_jsxs("li", { children: [_jsx("a", { class: "button", href: `${base}/export?format=${format}`, download: true, children: title }), " ", _jsx("span", { class: "muted", children: what })] }, format))) }), _jsx("button", { type: "button", onClick: () => window.print(), children: "Print this page" })] })), _jsxs("section", { class: "card", "aria-label": "Summary", children: [_jsx("h2", { children: study.name }), _jsxs("p", { children: [goal, "; method ", study.method, "; ", study.n, " trials", counted(data?.counts ?? {}), "."] }), data?.insight && _jsx("p", { children: data.insight }), data?.gain && _jsx("p", { children: data.gain }), data && data.advice.length > 0 && _jsx("ul", { children: data.advice.map((line) => _jsx("li", { children: line }, line)) }), data?.best && (_jsxs(_Fragment, { children: [_jsxs("h3", { children: ["Best, trial ", data.best.number] }), _jsx(Table, { head: ["", "value"], label: "Best trial", rows: [...Object.entries(data.best.metrics), ...Object.entries(data.best.params)].map(([name, value]) => [name, exact(value, 4)]) })] })), data && !data.best && data.pareto.length > 0 && _jsxs("p", { children: [data.pareto.length, " trials are beaten by no other: ", data.pareto.join(", "), "."] }), study.n === 0 && _jsx(Empty, { children: "No trial has begun." })] }), kinds.map((kind) => _jsx(FigureCard, { study: study.name, kind: kind }, kind))] }));
}
function counted(counts) {
    const parts = Object.entries(counts).filter(([, n]) => n > 0).map(([state, n]) => `${n} ${state}`);
    return parts.length ? ` (${parts.join(", ")})` : "";
}
