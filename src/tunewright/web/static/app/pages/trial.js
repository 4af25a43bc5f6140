import { Fragment as _Fragment, jsx as _jsx, jsxs as _jsxs } from "preact/jsx-runtime";
// One trial: what it was given, what came out, what it printed, and how to try it again.
import { useState } from "preact/hooks";
import { of } from "../api.js";
import { Drawn } from "../figure.js";
import { Copying } from "../parts/copying.js";
import { Enqueue } from "../parts/enqueue.js";
import { PageHead, exact, link, revision, useGet } from "../parts/kit.js";
import { Remarks } from "../parts/remarks.js";
import { near, same, written } from "../parts/space.js";
import { Tail } from "../parts/tail.js";
import { may } from "../study.js";
import { Empty, Select, StateMark, say } from "../ui.js";
import { span, when } from "../words.js";
export function TrialPage({ study, number }) {
    const base = of(study.name);
    const { data: trial, error } = useGet(`${base}/trials/${number}`, revision());
    const { data: overview } = useGet(`${base}/overview`, revision());
    const bestNumber = overview?.best?.number ?? study.best;
    const defaultNumber = overview?.default?.trial ?? null;
    const { data: best } = useGet(bestNumber !== null && bestNumber >= 0 && bestNumber !== number ? `${base}/trials/${bestNumber}` : null);
    const { data: start } = useGet(defaultNumber !== null && defaultNumber !== number ? `${base}/trials/${defaultNumber}` : null);
    if (error) {
        return (_jsxs(_Fragment, { children: [_jsx(PageHead, { title: `Trial ${number}`, what: "" }), _jsx(Empty, { children: error })] }));
    }
    if (!trial)
        return _jsx(PageHead, { title: `Trial ${number}`, what: "Loading\u2026" });
    const peers = { best: best ?? null, start: start ?? null };
    return (_jsxs(_Fragment, { children: [_jsx(Head, { study: study.name, trial: trial, total: study.n, best: bestNumber === number }), _jsxs("div", { class: "halves", children: [_jsx(Facts, { study: study.name, trial: trial }), _jsx(Metrics, { trial: trial, best: peers.best, first: study.objectives.map((o) => o.name) })] }), trial.error && (_jsxs("section", { class: "card", "aria-label": "Error", children: [_jsx("h2", { children: "What went wrong" }), _jsx("pre", { class: "code wrong", tabIndex: 0, "aria-label": "Error text", children: trial.error })] })), _jsx(Params, { trial: trial, best: peers.best, start: peers.start }), _jsx(Course, { trial: trial, best: peers.best, sizes: study.sizes, first: study.objectives[0]?.name ?? "" }), _jsx(Tail, { study: study.name, trial: number, running: trial.status === "running" }), _jsx(Remarks, { study: study.name, trial: number }), _jsx(Copying, { study: study.name, trial: number })] }));
}
function Head({ study, trial, total, best }) {
    const [form, setForm] = useState("");
    const { data } = useGet(may("worker") ? of(study) : null);
    const space = data?.spec.problem.space;
    const at = (n) => link(study, `trial/${n}`);
    return (_jsxs("header", { class: "page-head trial-head", children: [_jsxs("h1", { children: ["Trial ", trial.number, " ", _jsx(StateMark, { state: trial.status }), " ", best && _jsx("span", { class: "badge best-badge", children: "\u2605 best" })] }), _jsxs("div", { class: "tools", children: [trial.number > 0 && _jsxs("a", { class: "button", href: at(trial.number - 1), children: ["\u2190 ", trial.number - 1] }), trial.number < total - 1 && _jsxs("a", { class: "button", href: at(trial.number + 1), children: [trial.number + 1, " \u2192"] }), space && (_jsxs(_Fragment, { children: [_jsx("button", { type: "button", onClick: () => setForm("again"), children: "Run again\u2026" }), _jsx("button", { type: "button", onClick: () => setForm("near"), children: "Enqueue near\u2026" })] }))] }), form && space && (_jsx(Enqueue, { study: study, space: space, title: form === "again" ? `Run trial ${trial.number} again` : `Try near trial ${trial.number}`, start: form === "again" ? trial.params : near(space, trial.params), onClose: (text) => {
                    setForm("");
                    if (text)
                        say(text);
                } }))] }));
}
function Facts({ study, trial }) {
    const took = trial.ended !== null ? trial.ended - trial.started : null;
    const rows = [
        ["Started", when(trial.started)],
        ["Ended", trial.ended !== null ? when(trial.ended) : "not yet"],
    ];
    if (took !== null)
        rows.push(["Took", span(took)]);
    if (trial.cost !== null)
        rows.push(["Cost", exact(trial.cost)]);
    if (trial.place)
        rows.push(["Size", trial.place.words]);
    else if (trial.step || trial.until !== null)
        rows.push(["Steps", trial.until !== null ? `${trial.step} of ${trial.until}` : `${trial.step}`]);
    rows.push(["Worker", trial.worker || "—"], ["Proposed by", trial.by || "—"]);
    if (trial.attempts > 1)
        rows.push(["Attempts", `${trial.attempts}`]);
    if (trial.parent !== null) {
        rows.push(["Copy of", _jsxs("a", { href: link(study, `trial/${trial.parent[0]}`), children: ["trial ", trial.parent[0], ", at ", trial.place?.parent ?? `step ${trial.parent[1]}`] })]);
    }
    for (const [name, value] of Object.entries(trial.why ?? {}))
        rows.push([`Why: ${name}`, written(value)]);
    return (_jsxs("section", { class: "card", "aria-label": "Facts", children: [_jsx("h2", { children: "Facts" }), _jsx("dl", { class: "facts trial-facts", children: rows.map(([name, value]) => (_jsxs("div", { children: [_jsx("dt", { children: name }), _jsx("dd", { children: value })] }, name))) })] }));
}
function Metrics({ trial, best, first }) {
    const names = [...first.filter((n) => n in trial.metrics), ...Object.keys(trial.metrics).filter((n) => !first.includes(n))];
    return (_jsxs("section", { class: "card", "aria-label": "Metrics", children: [_jsx("h2", { children: "Metrics" }), names.length === 0 ? (_jsxs("p", { class: "muted", children: ["No result", trial.status === "running" ? " yet" : "", "."] })) : (_jsx("div", { class: "table-box", tabIndex: 0, role: "group", "aria-label": "Table of metrics", children: _jsxs("table", { children: [_jsx("thead", { children: _jsxs("tr", { children: [_jsx("th", { scope: "col", children: "Metric" }), _jsx("th", { scope: "col", class: "right", children: "This trial" }), best && _jsxs("th", { scope: "col", class: "right", children: ["Best (trial ", best.number, ")"] })] }) }), _jsx("tbody", { children: names.map((name) => (_jsxs("tr", { children: [_jsx("th", { scope: "row", children: _jsx("span", { class: "long", title: name, children: name }) }), _jsx("td", { class: "right number", children: exact(trial.metrics[name]) }), best && _jsx("td", { class: "right number", children: exact(best.metrics[name]) })] }, name))) })] }) }))] }));
}
function Params({ trial, best, start }) {
    const [only, setOnly] = useState("all");
    const others = [best, start].filter((t) => t !== null);
    const names = [...new Set([trial, ...others].flatMap((t) => Object.keys(t.params)))];
    const differs = (name) => others.some((t) => !same(t.params[name], trial.params[name]));
    const shown = only === "different" ? names.filter(differs) : names;
    const cell = (of, name) => {
        if (!(name in of.params))
            return _jsx("span", { class: "muted", children: "not used" });
        const value = of.params[name];
        return _jsx("span", { class: typeof value === "number" ? "number" : "", children: exact(value) });
    };
    return (_jsxs("section", { class: "card", "aria-label": "Parameters", children: [_jsxs("div", { class: "card-head", children: [_jsx("h2", { children: "Parameters" }), others.length > 0 && (_jsx("div", { class: "tools", children: _jsx(Select, { label: "Show", value: only, options: [["all", "all"], ["different", "those that differ"]], onChange: setOnly }) }))] }), _jsx("div", { class: "table-box", tabIndex: 0, role: "group", "aria-label": "Table of parameters", children: _jsxs("table", { class: "params", children: [_jsx("thead", { children: _jsxs("tr", { children: [_jsx("th", { scope: "col", children: "Parameter" }), _jsx("th", { scope: "col", class: "right", children: "This trial" }), best && _jsxs("th", { scope: "col", class: "right", children: ["Best (trial ", best.number, ")"] }), start && _jsxs("th", { scope: "col", class: "right", children: ["Default (trial ", start.number, ")"] })] }) }), _jsx("tbody", { children: shown.map((name) => (_jsxs("tr", { class: differs(name) ? "differs" : "", children: [_jsx("th", { scope: "row", children: _jsx("span", { class: "long", title: name, children: name }) }), _jsx("td", { class: "right", children: cell(trial, name) }), best && _jsxs("td", { class: "right", children: [mark(best, trial, name), cell(best, name)] }), start && _jsxs("td", { class: "right", children: [mark(start, trial, name), cell(start, name)] })] }, name))) })] }) })] }));
}
function mark(other, trial, name) {
    return same(other.params[name], trial.params[name]) ? null : _jsx("span", { class: "differs-mark", title: "differs", children: "\u2260 " });
}
function Course({ trial, best, sizes, first }) {
    const [metric, setMetric] = useState("");
    const names = [...new Set(trial.reports.flatMap((r) => Object.keys(r.metrics)))];
    if (trial.reports.length < 2 || !names.length)
        return null;
    const chosen = metric || (names.includes(first) ? first : names[0]);
    return (_jsx(Drawn, { figure: course(trial, best, sizes, chosen), tools: names.length > 1 && _jsx(Select, { label: "Metric", value: chosen, options: names.map((n) => [n, n]), onChange: setMetric }) }));
}
function course(trial, best, sizes, metric) {
    const told = (t) => t.reports.filter((r) => metric in r.metrics);
    const points = (t) => told(t).map((r) => [r.across ?? r.step, r.metrics[metric]]);
    const mine = points(trial);
    const theirs = best ? points(best) : [];
    const all = [...mine, ...theirs];
    const values = all.map(([, v]) => v);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const log = low > 0 && high / low > 30;
    const pad = log ? 0 : (high - low || Math.abs(high) || 1) * 0.05;
    return {
        kind: "course",
        title: `Course of ${metric}`,
        how: "The line is this trial as it was trained" + (best ? "; the pale one is the best trial." : "."),
        insight: mine.length ? `It began at ${short(mine[0][1])} and ended at ${short(mine[mine.length - 1][1])}.` : "",
        columns: 1,
        legend: [["s0", `trial ${trial.number}`], ...(best && theirs.length ? [["muted", `best, trial ${best.number}`]] : [])],
        head: [sizes.length ? "size" : "step", metric],
        table: told(trial).map((r) => [r.words ?? `${r.step}`, `${r.metrics[metric]}`]),
        panels: [
            {
                title: "",
                height: 240,
                x: sizes.length
                    ? { label: "size", kind: "names", low: -0.5, high: sizes.length - 0.5, names: sizes, clipped: 0 }
                    : { label: "step", kind: "linear", low: 0, high: Math.max(...all.map(([s]) => s)), names: null, clipped: 0 },
                y: { label: metric, kind: log ? "log" : "linear", low: log ? low / 1.1 : low - pad, high: log ? high * 1.1 : high + pad, names: null, clipped: 0 },
                marks: [
                    ...(theirs.length ? [{ type: "line", style: "muted", points: theirs, trial: best.number }] : []),
                    { type: "line", style: "s0", points: mine, trial: trial.number },
                ],
            },
        ],
    };
}
function short(value) {
    return Number(value.toPrecision(4)).toString();
}
