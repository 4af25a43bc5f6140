import { Fragment as _Fragment, jsx as _jsx, jsxs as _jsxs } from "preact/jsx-runtime";
// Parameters: which matter, where they do best, how they act together.
import { of } from "../api.js";
import { FigureCard } from "../figure.js";
import { Lead, useGet, useQuery } from "../parts/kit.js";
import { Pair } from "../parts/pair.js";
import { names } from "../parts/space.js";
import { Select } from "../ui.js";
const METHODS = [
    ["ped-anova", "what the best have in common (PED-ANOVA)"],
    ["fanova", "share of the variance (fANOVA)"],
    ["shapley", "Shapley values"],
    ["ablation", "way from default to best (ablation)"],
    ["local", "slope around the best (LIME)"],
];
export function Parameters({ study }) {
    const [method, setMethod] = useQuery("importance", METHODS[0][0]);
    const { data } = useGet(of(study.name));
    const all = data ? names(data.spec.problem.space) : study.params.map((p) => p.name);
    return (_jsxs(_Fragment, { children: [_jsx(Lead, { children: "Which parameters matter, where each does best, and how they act together." }), _jsx(FigureCard, { study: study.name, kind: "importance", query: method === METHODS[0][0] ? {} : { method }, tools: _jsx(Select, { label: "Measured by", value: method, options: METHODS, onChange: setMethod }) }), _jsx(FigureCard, { study: study.name, kind: "slice" }), _jsx(Two, { study: study.name, all: all }), _jsx(FigureCard, { study: study.name, kind: "interactions", lazy: true }), _jsx(FigureCard, { study: study.name, kind: "ablation", lazy: true }), _jsx(FigureCard, { study: study.name, kind: "sensitivity", lazy: true }), _jsx(FigureCard, { study: study.name, kind: "footprint", lazy: true })] }));
}
function Two({ study, all }) {
    const [x, setX] = useQuery("cx", "");
    const [y, setY] = useQuery("cy", "");
    if (all.length < 2)
        return null;
    // Until both are chosen, the server takes the two that matter most.
    const query = x && y && x !== y ? { x, y } : {};
    return (_jsx(FigureCard, { study: study, kind: "contour", title: "Two parameters together", query: query, lazy: true, tools: _jsx(Pair, { names: all, x: x, y: y, onChange: (a, b) => { setX(a); setY(b); } }) }));
}
