import { Fragment as _Fragment, jsx as _jsx, jsxs as _jsxs } from "preact/jsx-runtime";
// What small models say of the large one: its settings with an interval and their price, or the reason why there are none.
import { of } from "../api.js";
import { Card, Empty } from "../ui.js";
import { brief } from "../words.js";
import { link, revision, useGet } from "./kit.js";
/** What the server says of the target. */
export function useTransfer(study, query = "") {
    return useGet(of(study, `/transfer${query}`), revision());
}
/** The answer in a card; on the overview with a link to what it is read from. */
export function Answer({ study, told, error }) {
    const alone = told === undefined && error === undefined;
    const got = useTransfer(study);
    const [found, wrong] = alone ? [got.data, got.error] : [told, error];
    const law = found?.rules.find((r) => r.rule === found.rule)?.length;
    const title = found ? `For ${found.target.name}` : "For the target";
    const tools = alone && _jsx("a", { href: link(study, "transfer"), children: "How that was found" });
    if (!found)
        return _jsx(Card, { title: title, wide: true, tools: tools, children: _jsx(Empty, { children: wrong || "…" }) });
    return (_jsxs(Card, { title: title, wide: true, tools: tools, insight: found.why || undefined, children: [found.settings && found.interval ? (_jsxs(_Fragment, { children: [_jsx("dl", { class: "facts settings", children: Object.entries(found.settings).map(([name, value]) => (_jsxs("div", { children: [_jsx("dt", { class: "long", children: name }), _jsxs("dd", { class: "number long", children: [typeof value === "number" ? brief(value) : String(value), name === found.parameter && _jsxs("span", { class: "muted", children: [" ", brief(found.interval[0]), " \u2026 ", brief(found.interval[1])] })] })] }, name))) }), _jsxs("p", { class: "small", children: ["Under ", found.rule, "; the range of ", found.parameter, " is an interval of 90 percent. ", price(found.cost)] }), law && _jsxs("p", { class: "small", children: ["Length of training: ", law.words, "."] })] })) : (_jsxs(_Fragment, { children: [_jsxs("p", { class: "refusal", children: [_jsx("strong", { children: "No settings." }), " ", found.refusal] }), _jsx("p", { class: "small", children: price(found.cost) })] })), found.warnings.length > 0 && (_jsx("ul", { class: "advice small", children: found.warnings.map((w) => _jsx("li", { children: w.charAt(0).toUpperCase() + w.slice(1) }, w)) }))] }));
}
function price(cost) {
    return `The study cost ${brief(cost)} trainings of the target.`;
}
