import { Fragment as _Fragment, jsx as _jsx, jsxs as _jsxs } from "preact/jsx-runtime";
// One study at a glance: how far it is, what is best, what to do next.
import { useEffect, useState } from "preact/hooks";
import { Refusal, get, of } from "../api.js";
import { FigureCard } from "../figure.js";
import { Answer } from "../parts/answer.js";
import { Remarks } from "../parts/remarks.js";
import { History } from "../points.js";
import { href, to } from "../route.js";
import { TrialTable } from "../table.js";
import { Card, Empty, Num, StateMark } from "../ui.js";
import { brief, span } from "../words.js";
/** What the server says about a study in words. */
export function useOverview(study, rev) {
    const [told, setTold] = useState(null);
    useEffect(() => {
        const stop = new AbortController();
        get(of(study, "/overview"), stop.signal).then(setTold, (e) => {
            if (!(e instanceof Refusal) && !stop.signal.aborted)
                throw e;
        });
        return () => stop.abort();
    }, [study, rev]);
    return told;
}
export function Overview({ study: rows }) {
    const told = useOverview(rows.name, rows.rev);
    return (_jsxs(_Fragment, { children: [_jsxs("div", { class: "tiles", children: [_jsx(Best, { rows: rows, told: told }), _jsx(Progress, { rows: rows, told: told }), _jsx(Next, { told: told })] }), rows.sizes.length > 0 && _jsx(Answer, { study: rows.name }), _jsx(History, { rows: rows }), _jsxs("div", { class: "halves", children: [_jsx(FigureCard, { study: rows.name, kind: "importance", title: "Importance", lazy: true }), _jsx(FigureCard, { study: rows.name, kind: "edf", title: "Distribution of results", lazy: true })] }), _jsx(FigureCard, { study: rows.name, kind: "timeline", title: "Timeline", lazy: true }), _jsx(Card, { title: "Best trials", wide: true, tools: _jsx("a", { href: href(to(rows.name, "trials")), children: "All trials" }), children: _jsx(TrialTable, { rows: rows, height: 300 }) }), _jsx(Remarks, { study: rows.name, trial: null })] }));
}
function Best({ rows, told }) {
    const goal = rows.objectives[0];
    const best = told?.best;
    if (rows.objectives.length > 1) {
        return (_jsxs(Card, { title: "Best", children: [_jsx("p", { class: "big", children: _jsx(Num, { value: told?.pareto.length ?? null }) }), _jsxs("p", { children: ["trials that no other beats in every objective: ", _jsx("a", { href: href(to(rows.name, "pareto")), children: "see the front" })] })] }));
    }
    if (!goal || !best)
        return _jsx(Card, { title: "Best", children: _jsx(Empty, { children: told ? "No result yet." : "…" }) });
    return (_jsxs(Card, { title: `Best ${goal.name}`, insight: told?.gain ?? undefined, children: [_jsxs("p", { class: "big", children: [_jsx(Num, { value: best.metrics[goal.name] }), " ", _jsx("span", { class: "unit", children: goal.unit })] }), _jsxs("p", { class: "small", children: [_jsxs("a", { href: href(to(rows.name, `trial/${best.number}`)), children: ["trial ", best.number] }), best.place ? `, at ${best.place.words}` : best.step ? `, trained to step ${best.step}` : ""] }), _jsx("dl", { class: "facts", children: Object.entries(best.params).slice(0, 12).map(([name, value]) => (_jsxs("div", { children: [_jsx("dt", { class: "long", children: name }), _jsx("dd", { class: "number long", children: typeof value === "number" ? brief(value) : String(value) })] }, name))) })] }));
}
function Progress({ rows, told }) {
    return (_jsxs(Card, { title: "Progress", insight: told?.insight, children: [_jsxs("p", { class: "big", children: [_jsx("span", { class: "number", children: rows.n.toLocaleString("en") }), " ", _jsx("span", { class: "unit", children: "trials" })] }), told && (_jsxs("ul", { class: "states small", children: [Object.entries(told.counts).map(([state, n]) => (_jsxs("li", { children: [_jsx(StateMark, { state: state }), " ", _jsx("span", { class: "number", children: n.toLocaleString("en") })] }, state))), told.queued > 0 && _jsxs("li", { children: [told.queued, " enqueued"] })] })), told?.eta?.seconds != null && _jsxs("p", { class: "small muted", children: ["about ", span(told.eta.seconds), " left"] })] }));
}
function Next({ told }) {
    return (_jsx(Card, { title: "What next", children: told && (told.advice.length || told.stop) ? (_jsxs("ul", { class: "advice small", children: [told.stop && _jsx("li", { children: told.stop }), told.advice.map((a) => _jsx("li", { children: a }, a))] })) : (_jsx(Empty, { children: told ? "Nothing stands out. Let it run." : "…" })) }));
}
