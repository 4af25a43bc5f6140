import { Fragment as _Fragment, jsx as _jsx, jsxs as _jsxs } from "preact/jsx-runtime";
// Surrogate quality: whether the model of this study deserves trust.
import { FigureCard } from "../figure.js";
import { Lead } from "../parts/kit.js";
export function Surrogate({ study }) {
    return (_jsxs(_Fragment, { children: [_jsx(Lead, { children: "How well a model predicts trials that it has not seen. Slices, contours and forecasts rest on such a model." }), _jsx(FigureCard, { study: study.name, kind: "surrogate" })] }));
}
