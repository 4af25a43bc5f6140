import { Fragment as _Fragment, jsx as _jsx, jsxs as _jsxs } from "preact/jsx-runtime";
// Curves: every training by step or by time, the best few bright.
import { FigureCard } from "../figure.js";
import { Lead, useQuery } from "../parts/kit.js";
import { Select } from "../ui.js";
export function Curves({ study }) {
    const [x, setX] = useQuery("x", "step");
    const [top, setTop] = useQuery("top", "5");
    const [metric, setMetric] = useQuery("metric", "");
    const metrics = [...study.values.keys()].map((m) => [m, m]);
    const first = study.objectives[0]?.name ?? "";
    return (_jsxs(_Fragment, { children: [_jsx(Lead, { children: "How each training went; where it was compared with the others and stopped." }), _jsx(FigureCard, { study: study.name, kind: "curves", query: { ...(x === "time" ? { x } : {}), ...(top !== "5" ? { top } : {}), ...(metric && metric !== first ? { metric } : {}) }, tools: _jsxs(_Fragment, { children: [_jsx(Select, { label: "Across", value: x, options: [["step", study.sizes.length ? "sizes" : "steps"], ["time", "time"]], onChange: setX }), _jsx(Select, { label: "Bright", value: top, options: [["3", "best 3"], ["5", "best 5"], ["10", "best 10"], ["20", "best 20"]], onChange: setTop }), metrics.length > 1 && (_jsx(Select, { label: "Metric", value: metric || first, options: metrics, onChange: setMetric }))] }) })] }));
}
