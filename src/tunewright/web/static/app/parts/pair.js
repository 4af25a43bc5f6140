import { Fragment as _Fragment, jsx as _jsx, jsxs as _jsxs } from "preact/jsx-runtime";
// Two choices of different names, such as the axes of a contour.
import { Select } from "../ui.js";
/** Two choosers; taking the name of the other one swaps them. */
export function Pair({ names, x, y, onChange }) {
    const choices = names.map((name) => [name, name]);
    if (!x || !y)
        choices.unshift(["", "most important"]);
    return (_jsxs(_Fragment, { children: [_jsx(Select, { label: "Across", value: x, options: choices, onChange: (v) => onChange(v, v === y ? x : y) }), _jsx(Select, { label: "Up", value: y, options: choices, onChange: (v) => onChange(v === x ? y : x, v) })] }));
}
