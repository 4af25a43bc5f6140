import { Fragment as _Fragment, jsx as _jsx, jsxs as _jsxs } from "preact/jsx-runtime";
// Lineage: which trials are copies of which, and the schedule behind the best.
import { FigureCard } from "../figure.js";
import { Lead } from "../parts/kit.js";
export function Lineage({ study }) {
    return (_jsxs(_Fragment, { children: [_jsx(Lead, { children: "Members of a population are copies of copies; what the best was in fact trained with is the chain behind it." }), _jsx(FigureCard, { study: study.name, kind: "lineage" })] }));
}
