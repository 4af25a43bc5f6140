import { Fragment as _Fragment, jsx as _jsx, jsxs as _jsxs } from "preact/jsx-runtime";
// All studies of the store, newest first.
import { useEffect, useState } from "preact/hooks";
import { Refusal, get } from "../api.js";
import { asked, choose, go, href, to } from "../route.js";
import { rights } from "../study.js";
import { Card, Empty, Num, StateMark } from "../ui.js";
import { ago, count } from "../words.js";
const EVERY = 2000;
/** The board, looked at every two seconds while somebody looks at us. */
export function useBoard() {
    const [board, setBoard] = useState(null);
    const [trouble, setTrouble] = useState("");
    useEffect(() => {
        let timer = 0;
        const look = () => {
            if (document.hidden) {
                timer = window.setTimeout(look, EVERY);
                return;
            }
            get("/api/v1/board")
                .then((found) => {
                setBoard(found);
                setTrouble("");
                rights.value = found.readonly ? "read" : found.rights;
            })
                .catch((e) => e instanceof Refusal && setTrouble(e.message))
                .finally(() => (timer = window.setTimeout(look, EVERY)));
        };
        look();
        return () => window.clearTimeout(timer);
    }, []);
    return { board, trouble };
}
export function Studies() {
    const { board, trouble } = useBoard();
    const [ticked, setTicked] = useState([]);
    const search = asked("find");
    if (!board)
        return _jsx(Empty, { children: trouble || "…" });
    const fits = (s) => [s.name, s.method, ...s.tags].some((t) => t.toLowerCase().includes(search.toLowerCase()));
    const found = board.studies.filter(fits);
    const tick = (name) => setTicked(ticked.includes(name) ? ticked.filter((n) => n !== name) : [...ticked, name]);
    return (_jsxs(_Fragment, { children: [_jsxs("div", { class: "page-head", children: [_jsx("h1", { children: "Studies" }), _jsxs("div", { class: "tools", children: [_jsxs("label", { class: "choose", children: [_jsx("span", { class: "muted small", children: "Find" }), _jsx("input", { type: "search", value: search, onInput: (e) => choose({ find: e.currentTarget.value }) })] }), ticked.length > 1 && (_jsxs("a", { class: "button primary", href: href(`/compare?studies=${ticked.map(encodeURIComponent).join(",")}`), children: ["Compare ", ticked.length] }))] })] }), trouble && _jsx("p", { class: "wrong", children: trouble }), _jsx(Card, { title: count(found.length, "study").replace("studys", "studies"), wide: true, children: found.length ? (_jsx("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": "Studies", children: _jsxs("table", { class: "board", children: [_jsx("thead", { children: _jsxs("tr", { children: [_jsx("th", { scope: "col", children: _jsx("span", { class: "unseen", children: "Compare" }) }), _jsx("th", { scope: "col", children: "study" }), _jsx("th", { scope: "col", children: "state" }), _jsx("th", { scope: "col", class: "right", children: "best" }), _jsx("th", { scope: "col", children: "trials" }), _jsx("th", { scope: "col", children: "method" }), _jsx("th", { scope: "col", class: "right", children: "changed" })] }) }), _jsx("tbody", { children: found.map((s) => (_jsxs("tr", { onClick: (e) => !e.target.closest("a,input,label") && go(to(s.name)), children: [_jsx("td", { children: _jsx("input", { type: "checkbox", "aria-label": `Compare ${s.name}`, checked: ticked.includes(s.name), onChange: () => tick(s.name) }) }), _jsxs("td", { class: "long", children: [_jsx("a", { href: href(to(s.name)), children: s.name }), s.tags.map((t) => _jsx("span", { class: "chip", children: t }, t))] }), _jsx("td", { children: _jsx(StateMark, { state: s.state }) }), _jsx("td", { class: "right", children: _jsx(Best, { line: s }) }), _jsx("td", { children: _jsx(Counts, { counts: s.counts }) }), _jsx("td", { class: "muted", children: s.method }), _jsx("td", { class: "right muted", title: new Date(s.updated * 1000).toLocaleString(), children: ago(s.updated) })] }, s.name))) })] }) })) : (_jsx(Empty, { children: board.studies.length ? ("No study has that in its name.") : (_jsxs(_Fragment, { children: ["No studies yet. Make one: ", _jsxs("code", { children: ["tunewright run --minimize loss -- python train.py --lr '", "{lr:log 1e-5..1e-1}", "'"] })] })) })) })] }));
}
function Best({ line }) {
    const goal = line.objectives[0];
    if (line.best === null)
        return _jsx("span", { class: "muted", children: line.objectives.length > 1 ? `${line.objectives.length} objectives` : "–" });
    return (_jsxs(_Fragment, { children: [_jsxs("span", { class: "muted small long", children: [goal?.name, " "] }), _jsx(Num, { value: line.best })] }));
}
const PARTS = [["good", "completed"], ["live", "running"], ["wait", "paused"], ["bad", "failed"]];
/** Counts by state, as a bar and in words. */
function Counts({ counts }) {
    const sum = Object.values(counts).reduce((a, b) => a + b, 0);
    const wait = (counts["paused"] ?? 0) + (counts["waiting"] ?? 0) + (counts["stopped"] ?? 0);
    const parts = {
        completed: counts["completed"] ?? 0,
        running: counts["running"] ?? 0,
        paused: wait,
    };
    parts["failed"] = sum - parts["completed"] - parts["running"] - wait;
    const words = PARTS.filter(([, n]) => parts[n]).map(([, n]) => `${parts[n]} ${n}`).join(", ");
    return (_jsxs("span", { class: "counts", title: words, children: [_jsx("span", { class: "number", children: sum.toLocaleString("en") }), _jsx("span", { class: "bar", role: "img", "aria-label": words || "none", children: PARTS.map(([style, n]) => parts[n] ? _jsx("span", { class: style, style: { flexGrow: parts[n] } }, n) : null) })] }));
}
