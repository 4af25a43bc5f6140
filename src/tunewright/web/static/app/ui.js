import { jsx as _jsx, jsxs as _jsxs } from "preact/jsx-runtime";
// Small parts that every page is made of.
import { signal } from "@preact/signals";
import { useEffect, useRef, useState } from "preact/hooks";
import { brief } from "./words.js";
/** A box with a title, what it says here, and how to read it. */
export function Card({ title, how, insight, tools, children, wide }) {
    return (_jsxs("section", { class: wide ? "card wide" : "card", "aria-label": title, children: [_jsxs("div", { class: "card-head", children: [_jsx("h2", { children: title }), tools && _jsx("div", { class: "tools", children: tools })] }), insight && _jsx("p", { class: "insight", children: insight }), children, how && _jsx("p", { class: "how muted small", children: how })] }));
}
/** What stands where there is nothing yet. */
export function Empty({ children }) {
    return _jsx("div", { class: "empty muted", children: children });
}
/** A small thing that can be switched, or taken away by what its label says. */
export function Chip({ children, onClick, label }) {
    if (!onClick)
        return _jsx("span", { class: "chip", children: children });
    return (_jsxs("button", { type: "button", class: "chip", onClick: onClick, title: label, children: [children, label && _jsx("span", { "aria-hidden": "true", children: "\u2715" }), label && _jsx("span", { class: "unseen", children: label })] }));
}
/** A number to four digits. */
export function Num({ value }) {
    return _jsx("span", { class: "number", children: brief(value) });
}
const SHAPES = {
    completed: "●", running: "◐", paused: "‖", waiting: "○", stopped: "◗", failed: "✕", invalid: "⊘",
    timed_out: "◷", out_of_memory: "▲", lost: "?", killed: "✕", idle: "○", done: "●",
};
const KINDS = { completed: "good", done: "good", running: "live", paused: "wait", waiting: "wait", stopped: "wait", idle: "calm" };
/** A state as a shape, a colour and a word. */
export function StateMark({ state }) {
    return (_jsxs("span", { class: `state ${KINDS[state] ?? "bad"}`, children: [_jsx("span", { "aria-hidden": "true", children: SHAPES[state] ?? "·" }), " ", state.replaceAll("_", " ")] }));
}
/** Switches a chart to its table and back. */
export function AsTable({ on, onChange }) {
    return (_jsx("button", { type: "button", class: "plain", "aria-pressed": on, onClick: () => onChange(!on), children: on ? "Chart" : "Table" }));
}
/** A labelled choice. */
export function Select({ label, value, options, onChange }) {
    return (_jsxs("label", { class: "choose", children: [_jsx("span", { class: "muted small", children: label }), _jsx("select", { value: value, onChange: (e) => onChange(e.currentTarget.value), children: options.map(([v, words]) => (_jsx("option", { value: v, children: words }, v))) })] }));
}
// ---------------------------------------------------------------------- messages
const said = signal([]);
let messages = 0;
/** Says something at the edge of the page for some seconds. */
export function say(text, bad = false) {
    const id = ++messages;
    said.value = [...said.value, { id, text, bad }];
    window.setTimeout(() => (said.value = said.value.filter((m) => m.id !== id)), bad ? 10_000 : 4000);
}
/** Where messages appear. */
export function Messages() {
    return (_jsx("div", { class: "messages", role: "status", "aria-live": "polite", children: said.value.map((m) => (_jsx("p", { class: m.bad ? "bad" : "", children: m.text }, m.id))) }));
}
// ---------------------------------------------------------------------- hooks
/** Whether an element has been near the window once. */
export function useSeen(at_once = false) {
    const place = useRef(null);
    const [seen, setSeen] = useState(at_once);
    useEffect(() => {
        const element = place.current;
        if (seen || !element)
            return;
        const observer = new IntersectionObserver((entries) => entries.some((e) => e.isIntersecting) && setSeen(true), { rootMargin: "300px" });
        observer.observe(element);
        return () => observer.disconnect();
    }, [seen]);
    return [place, seen];
}
/** Saves text as a file of the reader's. */
export function save(name, data) {
    const url = typeof data === "string" ? data : URL.createObjectURL(data);
    const link = document.createElement("a");
    link.href = url;
    link.download = name.replace(/[^\p{L}\p{N}._-]+/gu, "-").slice(0, 100);
    link.click();
    if (typeof data !== "string")
        window.setTimeout(() => URL.revokeObjectURL(url), 1000);
}
