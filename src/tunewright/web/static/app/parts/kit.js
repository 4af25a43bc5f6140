import { jsx as _jsx, jsxs as _jsxs } from "preact/jsx-runtime";
import { useEffect, useRef, useState } from "preact/hooks";
import { Refusal, get } from "../api.js";
import { asked, choose, href, to } from "../route.js";
import { rows } from "../study.js";
import { brief } from "../words.js";
const WAIT = 2000; // milliseconds between two looks while a study changes
/** What is at an address, looked at again some time after ``rev`` changed; null asks for nothing. */
export function useGet(path, rev = 0) {
    const [found, setFound] = useState({ path: null, error: "", status: 0 });
    const last = useRef({ path: "", at: 0, timer: 0, rev });
    const look = () => {
        if (path === null)
            return;
        Object.assign(last.current, { path, at: Date.now(), timer: 0 });
        const ours = () => last.current.path === path;
        get(path).then((data) => ours() && setFound({ path, data, error: "", status: 200 }), (error) => {
            const status = error instanceof Refusal ? error.status : 0;
            if (ours())
                setFound({ path, error: error instanceof Error ? error.message : String(error), status });
        });
    };
    useEffect(() => {
        window.clearTimeout(last.current.timer);
        look();
        return () => {
            window.clearTimeout(last.current.timer);
            last.current.path = "";
        };
    }, [path]);
    useEffect(() => {
        const { current } = last;
        if (current.rev === rev)
            return;
        current.rev = rev;
        // The rest between two looks is kept even when news come faster than that.
        if (current.at && !current.timer)
            current.timer = window.setTimeout(look, Math.max(0, current.at + WAIT - Date.now()));
    }, [rev]);
    const here = found.path === path;
    return { data: here ? found.data : undefined, error: here ? found.error : "", status: here ? found.status : 0, again: look };
}
/** A value in the address and its setter; the usual value is not written there. */
export function useQuery(name, usual) {
    return [asked(name, usual), (value) => choose({ [name]: value === usual ? "" : value })];
}
/** The title of a page, and what it is for. */
export function PageHead({ title, what, children }) {
    return (_jsxs("header", { class: "page-head", children: [_jsx("h1", { children: title }), what && _jsx("p", { class: "muted", children: what }), children] }));
}
/** What a page is for, above its cards. */
export function Lead({ children }) {
    return _jsx("p", { class: "lead muted", children: children });
}
/** The address of a page of a study, for a link. */
export function link(study, page = "") {
    return href(to(study, page));
}
/** The number of the log that is in view, so that what was read from it can be read again. */
export function revision() {
    return rows.value?.rev ?? 0;
}
/** A value as text: numbers in full, or to some digits. */
export function exact(value, digits) {
    if (value === null || value === undefined)
        return "–";
    if (typeof value === "number")
        return digits === undefined ? String(value) : brief(value);
    return typeof value === "string" ? value : JSON.stringify(value);
}
/** A table that scrolls sideways within its own box; the first column heads the rows. */
export function Table({ head, rows: lines, label }) {
    return (_jsx("div", { class: "table-box", tabIndex: 0, role: "group", "aria-label": label, children: _jsxs("table", { children: [_jsx("thead", { children: _jsx("tr", { children: head.map((cell, i) => (cell === "" ? _jsx("td", {}, i) : _jsx("th", { scope: "col", class: i ? "right" : "", children: _jsx("span", { class: "long", children: cell }) }, i))) }) }), _jsx("tbody", { children: lines.map((line, n) => (_jsx("tr", { children: line.map((cell, i) => i === 0 ? _jsx("th", { scope: "row", children: _jsx("span", { class: "long", children: cell }) }, i) : _jsx("td", { class: "right number", children: _jsx("span", { class: "long", children: cell }) }, i)) }, n))) })] }) }));
}
