import { Fragment as _Fragment, jsx as _jsx, jsxs as _jsxs } from "preact/jsx-runtime";
// Methods: what can decide, when to use it, what was claimed of it and what measuring said.
import { PageHead, useGet, useQuery } from "../parts/kit.js";
import { Empty, Select } from "../ui.js";
export function Methods() {
    const [words, setWords] = useQuery("q", "");
    const [family, setFamily] = useQuery("family", "");
    const { data, error } = useGet("/api/v1/methods");
    const all = data?.methods ?? [];
    const families = [...new Set(all.map((m) => m.family))];
    const found = all.filter((m) => (!family || m.family === family) && matches(m, words));
    return (_jsxs(_Fragment, { children: [_jsx(PageHead, { title: "Methods", what: "What can decide which configurations are tried, when to use each, and what measuring said about its claims." }), _jsxs("div", { class: "tools searching", children: [_jsx("input", { type: "search", "aria-label": "Search methods", placeholder: "Search: name, paper, when to use, claim", value: words, onInput: (e) => setWords(e.currentTarget.value) }), _jsx(Select, { label: "Family", value: family, options: [["", "all"], ...families.map((f) => [f, f])], onChange: setFamily }), _jsx("span", { role: "status", class: "muted", children: data ? `${found.length} of ${all.length}` : "" })] }), error && _jsx(Empty, { children: error }), data && !found.length && _jsx(Empty, { children: "Nothing matches. Use fewer words." }), _jsx("div", { class: "methods", children: found.map((method) => _jsx(Entry, { method: method }, `${method.kind} ${method.name}`)) })] }));
}
function Entry({ method }) {
    const { claims } = method;
    return (_jsxs("article", { class: "card method", "aria-label": method.name, children: [_jsxs("h2", { children: [_jsx("code", { children: method.name }), " ", _jsx("span", { class: "badge", children: method.family })] }), _jsx("p", { children: method.summary }), _jsxs("dl", { class: "facts", children: [method.when && _jsxs("div", { children: [_jsx("dt", { children: "When" }), _jsx("dd", { children: method.when })] }), method.paper && _jsxs("div", { children: [_jsx("dt", { children: "Paper" }), _jsx("dd", { children: method.paper })] }), method.needs && _jsxs("div", { children: [_jsx("dt", { children: "Needs" }), _jsx("dd", { children: method.needs })] })] }), claims.length > 0 && (_jsxs("details", { children: [_jsx("summary", { children: claims.length === 1 ? "1 claim, measured" : `${claims.length} claims, measured` }), _jsx("ul", { class: "claims", children: claims.map((claim) => (_jsxs("li", { children: [_jsx("strong", { children: claim.title }), " ", _jsx("span", { class: "muted", children: claim.paper }), _jsx("br", {}), _jsx("span", { class: "badge", children: claim.verdict }), " ", claim.summary, " ", _jsxs("span", { class: "muted", children: [claim.seeds, " seeds."] })] }, claim.claim))) })] }))] }));
}
/** Whether every word is somewhere in what is known about a method. */
export function matches(method, words) {
    const text = JSON.stringify(method).toLowerCase();
    return words.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}
