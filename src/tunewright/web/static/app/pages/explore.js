import { Fragment as _Fragment, jsx as _jsx, jsxs as _jsxs } from "preact/jsx-runtime";
// All trials at once: parallel coordinates, any two columns, and the table, under one selection.
import { Parallel } from "../parallel.js";
import { Scatter } from "../points.js";
import { TrialTable } from "../table.js";
import { Card } from "../ui.js";
export function Explore({ study: rows }) {
    return (_jsxs(_Fragment, { children: [_jsx(Card, { title: "Parallel coordinates", wide: true, how: "Each line is a trial, brighter the better; the best twentieth is on top. Drag along an axis to choose a range, click it to lift the range, drag a name to move its axis. A line that passes below an axis has no value there.", children: _jsx(Parallel, { rows: rows }) }), _jsx(Scatter, { rows: rows }), _jsx(Card, { title: "Chosen trials", wide: true, children: _jsx(TrialTable, { rows: rows, height: 360 }) })] }));
}
