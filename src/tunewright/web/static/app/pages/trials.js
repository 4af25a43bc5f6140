import { Fragment as _Fragment, jsx as _jsx, jsxs as _jsxs } from "preact/jsx-runtime";
// The table of all trials.
import { asked, choose } from "../route.js";
import { columnNames } from "../rows.js";
import { TrialTable, saveCsv } from "../table.js";
import { Card } from "../ui.js";
export function Trials({ study: rows }) {
    const all = columnNames(rows);
    const usual = all.filter((n) => !["cost", "by", "worker"].includes(n)).slice(0, 14);
    const shown = asked("cols") ? asked("cols").split("~") : usual;
    const flip = (name) => {
        const next = all.filter((n) => (n === name ? !shown.includes(n) : shown.includes(n)));
        choose({ cols: next.length ? next.join("~") : "" });
    };
    return (_jsx(Card, { title: "Trials", wide: true, tools: _jsxs(_Fragment, { children: [_jsx("button", { type: "button", class: "plain", "aria-pressed": asked("diff") !== "", onClick: () => choose({ diff: asked("diff") ? "" : "best" }), children: "Against the best" }), _jsxs("details", { class: "menu", children: [_jsx("summary", { class: "plain", children: "Columns" }), _jsxs("fieldset", { children: [_jsx("legend", { class: "unseen", children: "Columns" }), all.map((n) => (_jsxs("label", { class: "pick", children: [_jsx("input", { type: "checkbox", checked: shown.includes(n), onChange: () => flip(n) }), " ", _jsx("span", { class: "long", children: n })] }, n)))] })] }), _jsx("button", { type: "button", class: "plain", onClick: () => saveCsv(rows), children: "CSV" })] }), children: _jsx(TrialTable, { rows: rows, height: Math.max(360, window.innerHeight - 260) }) }));
}
