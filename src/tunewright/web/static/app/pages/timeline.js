import { Fragment as _Fragment, jsx as _jsx, jsxs as _jsxs } from "preact/jsx-runtime";
// Timeline: who worked on what and when, and what it cost.
import { FigureCard } from "../figure.js";
import { Lead } from "../parts/kit.js";
export function Timeline({ study }) {
    return (_jsxs(_Fragment, { children: [_jsx(Lead, { children: "One lane per worker: what each trained, when it waited, what was cut off." }), _jsx(FigureCard, { study: study.name, kind: "timeline" }), _jsx(FigureCard, { study: study.name, kind: "cost", lazy: true })] }));
}
