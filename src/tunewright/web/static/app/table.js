import { jsx as _jsx, jsxs as _jsxs } from "preact/jsx-runtime";
// The table of trials: only the rows in view are in the page, so a hundred thousand scroll as well as ten.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { asked, choose, go, href, to } from "./route.js";
import { column, columnNames } from "./rows.js";
import { pointed, selection } from "./study.js";
import { Chip, StateMark, save } from "./ui.js";
import { count, shown } from "./words.js";
const TALL = 30;
const SPARE = 8;
/** The order of rows by a column; those without a value last. */
function sorted(c, list, down) {
    if (!c)
        return list;
    const { data } = c;
    return list.sort((a, b) => {
        const [x, y] = [data[a], data[b]];
        if (Number.isNaN(x) || Number.isNaN(y))
            return Number(Number.isNaN(x)) - Number(Number.isNaN(y)) || a - b;
        return (down ? y - x : x - y) || a - b;
    });
}
/** Trials in rows; sorted by a click on a head. */
export function TrialTable({ rows, height = 480, fixed, name = "Trials" }) {
    const all = columnNames(rows);
    const goal = rows.objectives[0];
    const usual = all.filter((n) => !["cost", "by", "worker"].includes(n)).slice(0, 14);
    const wanted = fixed ?? (asked("cols") ? asked("cols").split("~").filter((n) => all.includes(n)) : usual);
    const order = asked("by", goal?.name ?? "trial");
    const down = asked("dir", goal?.goal === "maximize" && order === goal.name ? "down" : "up") === "down";
    const against = !fixed && asked("diff") !== "";
    const [top, setTop] = useState(0);
    const [tall, setTall] = useState(height);
    const box = useRef(null);
    const chosen = selection.value;
    const list = useMemo(() => {
        const kept = [];
        for (let i = 0; i < rows.n; i++)
            if (chosen.mask[i])
                kept.push(i);
        return sorted(column(rows, order), Uint32Array.from(kept), down);
    }, [rows, chosen, order, down]);
    const columns = wanted.map((n) => column(rows, n)).filter((c) => c !== null);
    const best = useMemo(() => Array.from(rows.number).indexOf(rows.best), [rows]);
    useEffect(() => {
        if (box.current)
            setTall(box.current.clientHeight);
    }, []);
    const first = Math.max(0, Math.floor(top / TALL) - SPARE);
    const last = Math.min(list.length, Math.ceil((top + tall) / TALL) + SPARE);
    const visible = Array.from(list.subarray(first, last));
    return (_jsxs("div", { class: "scroll trials", style: { maxHeight: `${height}px` }, ref: box, tabIndex: 0, role: "region", "aria-label": `${name}: ${count(list.length, "trial")}, by ${order}`, onScroll: (e) => setTop(e.currentTarget.scrollTop), children: [_jsxs("table", { "aria-rowcount": list.length + 1, children: [_jsx("thead", { children: _jsx("tr", { children: columns.map((c) => (_jsx("th", { scope: "col", class: c.labels || c.said ? "" : "right", "aria-sort": c.name === order ? (down ? "descending" : "ascending") : "none", children: _jsxs("button", { type: "button", class: "sort", onClick: () => choose({ by: c.name, dir: c.name === order && !down ? "down" : "up" }), children: [_jsx("span", { class: "long", children: c.name }), _jsx("span", { "aria-hidden": "true", children: c.name === order ? (down ? "▾" : "▴") : "" })] }) }, c.name))) }) }), _jsxs("tbody", { children: [first > 0 && _jsx("tr", { "aria-hidden": "true", style: { height: `${first * TALL}px` } }), visible.map((row, i) => (_jsx("tr", { "aria-rowindex": first + i + 2, class: row === pointed.value ? "pointed" : row === best ? "best" : "", onPointerEnter: () => (pointed.value = row), onClick: (e) => !e.target.closest("a") && go(to(rows.name, `trial/${rows.number[row]}`)), children: columns.map((c) => (_jsx(Cell, { column: c, row: row, rows: rows, like: best >= 0 && row !== best && against ? best : -1 }, c.name))) }, row))), last < list.length && _jsx("tr", { "aria-hidden": "true", style: { height: `${(list.length - last) * TALL}px` } })] })] }), !list.length && _jsx("p", { class: "empty muted", children: rows.n ? "No trial fits the selection." : "No trials yet." })] }));
}
function Cell({ column: c, row, rows, like }) {
    if (c.name === "state" && c.labels)
        return _jsx("td", { children: _jsx(StateMark, { state: c.labels[c.data[row]] ?? "" }) });
    if (c.name === "trial") {
        return (_jsx("td", { class: "right number", children: _jsx("a", { href: href(to(rows.name, `trial/${rows.number[row]}`)), children: rows.number[row] }) }));
    }
    const text = shown(c, row);
    const kind = c.labels ? "long" : c.said ? "place" : "right number";
    if (like < 0 || !rows.params.some((p) => p.name === c.name))
        return _jsx("td", { class: kind, children: text });
    return text === shown(c, like) ? _jsx("td", { class: `${kind} same`, children: text && "=" }) : _jsx("td", { class: `${kind} differs`, children: text || "–" });
}
/** Chips that say what is chosen, and take it back. */
export function Chosen({ rows }) {
    const chosen = selection.value;
    if (!chosen.on)
        return null;
    return (_jsxs(Chip, { onClick: () => choose({ sel: "", q: "" }), label: "Choose all trials again", children: [chosen.size.toLocaleString("en"), " of ", count(rows.n, "trial")] }));
}
/** The chosen trials as CSV, made here. */
export function saveCsv(rows) {
    const quoted = (v) => (/[",\n]/.test(v) ? `"${v.replaceAll('"', '""')}"` : v);
    const columns = columnNames(rows).map((n) => column(rows, n)).filter((c) => c !== null);
    const lines = [columns.map((c) => quoted(c.name)).join(",")];
    for (let row = 0; row < rows.n; row++) {
        if (!selection.value.mask[row])
            continue;
        lines.push(columns.map((c) => {
            const v = c.data[row];
            return Number.isNaN(v) ? "" : quoted(c.labels ? (c.labels[v] ?? "") : String(v));
        }).join(","));
    }
    save(`${rows.name}.csv`, new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
}
