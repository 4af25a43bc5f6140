import { jsx as _jsx, jsxs as _jsxs } from "preact/jsx-runtime";
// Should I stop? One sentence, and the chart that it was read from.
import { FigureCard } from "../figure.js";
import { Lead } from "../parts/kit.js";
export function Stopping({ study }) {
    return (_jsxs("div", { class: "verdict stack", children: [_jsx(Lead, { children: "What more trials are expected to gain." }), _jsx(FigureCard, { study: study.name, kind: "stopping" })] }));
}
