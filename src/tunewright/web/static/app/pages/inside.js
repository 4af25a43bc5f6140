import { Fragment as _Fragment, jsx as _jsx, jsxs as _jsxs } from "preact/jsx-runtime";
// Inside runs: hyperparameters that were tuned, or chosen, while a training went on.
import { FigureCard } from "../figure.js";
import { Lead } from "../parts/kit.js";
export function Inside({ study }) {
    return (_jsxs(_Fragment, { children: [_jsx(Lead, { children: "Where hyperparameters went while trainings went on." }), _jsx(FigureCard, { study: study.name, kind: "inside" }), _jsx(FigureCard, { study: study.name, kind: "chosen" })] }));
}
