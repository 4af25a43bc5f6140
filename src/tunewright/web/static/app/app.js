import { Fragment as _Fragment, jsx as _jsx, jsxs as _jsxs } from "preact/jsx-runtime";
import { Component, render } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { fixed, get } from "./api.js";
import { studyPages } from "./pages.js";
import { Compare } from "./pages/compare.js";
import { Methods } from "./pages/methods.js";
import { Studies } from "./pages/studies.js";
import { TrialPage } from "./pages/trial.js";
import { address, asked, choose, go, href, place, to } from "./route.js";
import { Steer } from "./steer.js";
import { brush, brushes, clear, question, rights, rows, selection, trouble, view } from "./study.js";
import { Chosen } from "./table.js";
import { mode } from "./theme.js";
import { Chip, Empty, Messages } from "./ui.js";
import { brief, count } from "./words.js";
const KEEP = ["sel", "q"];
/** The part of the address that goes along from page to page. */
function along() {
    return Object.fromEntries(KEEP.map((k) => [k, asked(k)]).filter(([, v]) => v));
}
function Head({ at }) {
    const modes = {
        auto: ["light", "◐", "as the system has it"],
        light: ["dark", "☀", "light"],
        dark: ["auto", "☾", "dark"],
    };
    const [next, sign, words] = modes[mode.value];
    return (_jsxs("header", { class: "top no-print", children: [_jsx("a", { class: "skip", href: "#content", onClick: (e) => { e.preventDefault(); document.getElementById("content")?.focus(); }, children: "Skip to the content" }), _jsx("a", { class: "brand", href: href("/"), children: "Tunewright" }), at.study && (_jsxs("span", { class: "crumb", children: [_jsx("span", { "aria-hidden": "true", children: "/" }), " ", _jsx("a", { class: "long", href: href(to(at.study)), children: at.study })] })), _jsxs("nav", { class: "grow", "aria-label": "Tunewright", children: [!fixed && _jsx("a", { href: href("/compare"), "aria-current": at.page === "compare" ? "page" : undefined, children: "Compare" }), !fixed && _jsx("a", { href: href("/methods"), "aria-current": at.page === "methods" ? "page" : undefined, children: "Methods" })] }), at.study && _jsx(Steer, { study: at.study }), _jsx("button", { type: "button", class: "plain", onClick: () => (mode.value = next), "aria-label": `Colours: ${words}`, title: `Colours: ${words}`, children: _jsx("span", { "aria-hidden": "true", children: sign }) }), _jsx(Keys, { study: at.study })] }));
}
function Menu({ at, found }) {
    return (_jsx("nav", { class: "menu-bar no-print", "aria-label": "Pages of the study", children: [...studyPages].filter(([name, page]) => name === at.page || !found || (page.fits?.(found) ?? true)).map(([name, page]) => (_jsx("a", { href: href(to(at.study, name === "overview" ? "" : name, along())), "aria-current": name === at.page ? "page" : undefined, children: page.words }, name))) }));
}
function Question({ found }) {
    const chosen = selection.value;
    return (_jsxs("div", { class: "question no-print", children: [_jsxs("label", { class: "grow", children: [_jsx("span", { class: "unseen", children: "Choose trials" }), _jsx("input", { id: "question", type: "search", placeholder: "choose trials: state:completed lr<1e-3", value: question.value, "aria-invalid": chosen.wrong !== "", "aria-describedby": "question-wrong", onInput: (e) => choose({ q: e.currentTarget.value }) })] }), Object.entries(brushes.value).map(([name, [low, high]]) => (_jsxs(Chip, { onClick: () => brush(name, null), label: `Lift the range of ${name}`, children: [_jsx("span", { class: "long", children: name }), " ", brief(low), " \u2026 ", brief(high)] }, name))), _jsx(Chosen, { rows: found }), _jsx("span", { id: "question-wrong", class: "wrong small", role: "status", children: chosen.wrong })] }));
}
function Missing({ words }) {
    return (_jsxs("div", { class: "missing", children: [_jsx("h1", { children: "Not found" }), _jsx("p", { children: words }), _jsx("p", { children: _jsx("a", { href: href("/"), children: "All studies" }) })] }));
}
function InStudy({ at }) {
    const found = rows.value;
    const page = studyPages.get(at.page);
    const [Page, setPage] = useState(null);
    useEffect(() => {
        setPage(null);
        void page?.load().then((made) => setPage(() => made));
    }, [at.page]);
    if (trouble.value && !found) {
        const gone = trouble.value.status === 404;
        return gone ? _jsx(Missing, { words: `There is no study '${at.study}' here.` }) : _jsx(Empty, { children: trouble.value.message });
    }
    if (!page && at.page !== "trial")
        return _jsx(Missing, { words: `A study has no page '${at.page}'.` });
    const title = page ? page.words.replace("?", "") : `Trial ${at.item}`;
    return (_jsxs(_Fragment, { children: [_jsx(Menu, { at: at, found: found }), found && at.page !== "trial" && _jsx(Question, { found: found }), at.page !== "trial" && _jsx("h1", { class: "unseen", children: `${title}: ${at.study}` }), trouble.value && _jsx("p", { class: "wrong", children: trouble.value.message }), !found ? (_jsx(Empty, { children: "\u2026" })) : at.page === "trial" ? (_jsx(TrialPage, { study: found, number: Number(at.item) })) : Page ? (_jsx(Page, { study: found })) : (_jsx(Empty, { children: "\u2026" })), _jsx("p", { class: "unseen", "aria-live": "polite", children: found ? count(found.n, "trial") : "" })] }));
}
const HELP = [
    ["g then s", "all studies"], ["g then o, e, t, p", "overview, explore, trials, parameters"], ["/", "the question box"],
    ["Esc", "choose all trials again"], ["d", "light or dark"], ["?", "this help"],
];
function Keys({ study }) {
    const box = useRef(null);
    useEffect(() => {
        let leader = false;
        const onKey = (e) => {
            const target = e.target;
            if (e.ctrlKey || e.metaKey || e.altKey || target.matches("input,textarea,select") || document.querySelector("dialog[open]"))
                return;
            const goTo = { s: "/", o: to(study), e: to(study, "explore", along()), t: to(study, "trials", along()), p: to(study, "parameters", along()) };
            const path = leader ? goTo[e.key] : undefined;
            leader = e.key === "g" && !leader;
            if (path && (study || path === "/"))
                go(path);
            else if (e.key === "/") {
                e.preventDefault();
                document.getElementById("question")?.focus();
            }
            else if (e.key === "Escape" && !target.matches(".axis-name"))
                clear();
            else if (e.key === "d")
                mode.value = mode.value === "dark" ? "light" : "dark";
            else if (e.key === "?")
                box.current?.showModal();
        };
        document.addEventListener("keydown", onKey);
        return () => document.removeEventListener("keydown", onKey);
    }, [study]);
    return (_jsxs(_Fragment, { children: [_jsx("button", { type: "button", class: "plain", onClick: () => box.current?.showModal(), "aria-label": "Keys", children: "?" }), _jsxs("dialog", { ref: box, class: "sheet", "aria-label": "Keys", children: [_jsx("h2", { children: "Keys" }), _jsx("dl", { class: "facts", children: HELP.map(([key, what]) => _jsxs("div", { children: [_jsx("dt", { children: _jsx("kbd", { children: key }) }), _jsx("dd", { children: what })] }, key)) }), _jsx("form", { method: "dialog", children: _jsx("button", { type: "submit", class: "button", children: "Close" }) })] })] }));
}
/** Says what broke instead of leaving a blank page. */
class Guard extends Component {
    state = { error: "", at: "" };
    componentDidCatch(error) {
        this.setState({ error: error instanceof Error ? error.message : String(error), at: this.props.at });
        console.error(error);
    }
    render() {
        const { error, at } = this.state;
        if (error && at === this.props.at)
            return _jsxs("div", { class: "missing", children: [_jsx("h1", { children: "This page broke" }), _jsx("p", { class: "wrong", children: error })] });
        return this.props.children;
    }
}
function App() {
    const at = place(address.value.path);
    useEffect(() => view(at.study), [at.study]);
    useEffect(() => {
        if (fixed)
            return;
        // What we may do is on the board; a token for one study sees only that one there.
        get("/api/v1/board").then((b) => (rights.value = b.readonly ? "read" : b.rights), () => undefined);
    }, []);
    return (_jsxs(_Fragment, { children: [_jsx(Head, { at: at }), _jsx("main", { id: "content", tabIndex: -1, children: _jsx(Guard, { at: address.value.path, children: at.study ? _jsx(InStudy, { at: at }) : at.page === "studies" ? _jsx(Studies, {}) : at.page === "compare" ? _jsx(Compare, {}) : at.page === "methods" ? _jsx(Methods, {}) : _jsx(Missing, { words: "There is no such page." }) }) }), _jsx(Messages, {})] }));
}
const root = document.getElementById("app");
if (root)
    render(_jsx(App, {}), root);
