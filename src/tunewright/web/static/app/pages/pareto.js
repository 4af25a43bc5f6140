import { Fragment as _Fragment, jsx as _jsx, jsxs as _jsxs } from "preact/jsx-runtime";
// Pareto: the trade-off between objectives, and how the front grew.
import { FigureCard } from "../figure.js";
import { Lead, useQuery } from "../parts/kit.js";
import { Empty, Select } from "../ui.js";
export function Pareto({ study }) {
    const names = study.objectives.map((o) => o.name);
    const [x, setX] = useQuery("ox", names[0] ?? "");
    const [y, setY] = useQuery("oy", names[1] ?? "");
    if (names.length < 2) {
        return (_jsxs(_Fragment, { children: [_jsx(Lead, { children: "The trade-off between objectives." }), _jsxs(Empty, { children: ["This study has one objective, ", names[0], ": there is nothing to trade off. See its progress on Overview."] })] }));
    }
    const choices = names.map((n) => [n, n]);
    return (_jsxs(_Fragment, { children: [_jsx(Lead, { children: "What one objective costs in the other; no trial beats those on the front." }), _jsx(FigureCard, { study: study.name, kind: "pareto", query: names.length > 2 ? { x, y } : {}, tools: names.length > 2 && (_jsxs(_Fragment, { children: [_jsx(Select, { label: "Across", value: x, options: choices.filter(([n]) => n !== y), onChange: setX }), _jsx(Select, { label: "Up", value: y, options: choices.filter(([n]) => n !== x), onChange: setY })] })) }), _jsx(FigureCard, { study: study.name, kind: "hypervolume" }), _jsx(FigureCard, { study: study.name, kind: "attainment", lazy: true })] }));
}
