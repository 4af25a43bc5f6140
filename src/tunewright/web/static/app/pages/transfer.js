import { Fragment as _Fragment, jsx as _jsx, jsxs as _jsxs } from "preact/jsx-runtime";
// Transfer: settings of the target from small models, and what they are read from.
import { fixed } from "../api.js";
import { FigureCard } from "../figure.js";
import { Answer, useTransfer } from "../parts/answer.js";
import { Lead, Table, useQuery } from "../parts/kit.js";
import { Card, Select } from "../ui.js";
import { brief } from "../words.js";
const HORIZONS = [["", "as far as proxies tell"], ["shares", "by shares of trainings"], ["published", "by the published law"]];
export function Transfer({ study }) {
    const [horizon, setHorizon] = useQuery("horizon", "");
    const { data, error } = useTransfer(study.name, horizon && `?horizon=${encodeURIComponent(horizon)}`);
    return (_jsxs(_Fragment, { children: [_jsx(Lead, { children: "What trainings of small models say of the large one." }), !fixed && _jsx("div", { class: "tools", children: _jsx(Select, { label: "Longer trainings", value: horizon, options: HORIZONS, onChange: setHorizon }) }), _jsx(Answer, { study: study.name, told: data, error: error }), _jsx(FigureCard, { study: study.name, kind: "transfer", title: "From small to large", query: horizon ? { horizon } : {} }), data?.rules.map((rule) => _jsx(Evidence, { told: data, rule: rule }, rule.rule))] }));
}
function Evidence({ told, rule }) {
    const head = ["Size", "Steps", `Best ${told.parameter}`, "90 %", told.objective, "Trainings", "Diverged"];
    const lines = rule.sizes.map((s) => [
        s.name, s.steps.toLocaleString("en"), brief(s.rate), `${brief(s.low)} … ${brief(s.high)}`, brief(s.loss), `${s.count}`, `${s.diverged}`,
    ]);
    const end = rule.predicted;
    if (end)
        lines.push([`${told.target.name} (target)`, told.target.steps.toLocaleString("en"), brief(end.rate), `${brief(end.low)} … ${brief(end.high)}`, "", "", ""]);
    return (_jsxs(Card, { title: rule.rule === told.rule ? `${rule.rule}, chosen` : rule.rule, wide: true, insight: moves(told, rule), children: [lines.length > 0 && _jsx(Table, { head: head, rows: lines, label: `What the proxies say under ${rule.rule}` }), rule.length && _jsxs("p", { class: "small", children: ["Length of training: ", rule.length.words, "."] }), rule.refusal && _jsxs("p", { class: "refusal small", children: [_jsx("strong", { children: "Refused." }), " ", rule.refusal] })] }));
}
function moves(told, rule) {
    const claim = rule.claims ? "Claims that the best rate stays as sizes grow" : "Does not claim that the best rate stays; it is extrapolated";
    if (!rule.drift)
        return `${claim}.`;
    const [at, low, high] = rule.drift.map((v) => `${v < 0 ? "−" : "+"}${Math.abs(v).toFixed(2)}`);
    return `${claim}. ${rule.length ? "At one length, for" : "For"} each doubling of the size the best ${told.parameter} moved by ${at} doublings (${low} to ${high}).`;
}
