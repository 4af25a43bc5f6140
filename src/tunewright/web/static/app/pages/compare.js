import { Fragment as _Fragment, jsx as _jsx, jsxs as _jsxs } from "preact/jsx-runtime";
// Compare: studies side by side, those of several seeds as one line with an interval.
import { Empty } from "../ui.js";
import { count } from "../words.js";
import { Drawn } from "../figure.js";
import { PageHead, Table, exact, link, useGet, useQuery } from "../parts/kit.js";
const FEWEST = 2;
export function Compare() {
    const [text, setText] = useQuery("studies", "");
    const { data: board } = useGet("/api/v1/board");
    const all = board?.studies ?? [];
    const chosen = split(text, all.map((s) => s.name));
    const goal = all.find((s) => s.name === chosen[0])?.objectives[0];
    const choose = (name, on) => setText(joined(on ? [...chosen, name] : chosen.filter((c) => c !== name)));
    return (_jsxs(_Fragment, { children: [_jsx(PageHead, { title: "Compare studies", what: "The best result so far against the number of trials. Studies that differ only in their seed become one line with an interval." }), _jsxs("div", { class: "beside", children: [_jsxs("fieldset", { class: "card picks", children: [_jsx("legend", { children: "Studies" }), _jsxs("div", { class: "picks-list", children: [all.map((line) => {
                                        const objective = line.objectives[0];
                                        const fits = !goal || !objective || (objective.name === goal.name && objective.goal === goal.goal);
                                        return (_jsxs("label", { class: "pick", children: [_jsx("input", { type: "checkbox", checked: chosen.includes(line.name), onChange: (e) => choose(line.name, e.currentTarget.checked) }), _jsxs("span", { class: "pick-words", children: [_jsx("span", { children: line.name }), _jsxs("span", { class: "muted small", children: [line.method, ", ", count(total(line), "trial"), fits ? "" : `; ${objective.goal}s ${objective.name}`] })] })] }, line.name));
                                    }), !all.length && _jsx("p", { class: "muted", children: "No studies." })] })] }), _jsx("div", { class: "stack", children: chosen.length < FEWEST ? _jsx(Empty, { children: "Choose at least two studies." }) : _jsx(Result, { chosen: chosen }) })] })] }));
}
function Result({ chosen }) {
    const [first, ...others] = chosen;
    const path = `/api/v1/studies/${encodeURIComponent(first)}/compare?with=${encodeURIComponent(joined(others))}`;
    const { data, error } = useGet(path);
    if (error)
        return _jsx(Empty, { children: error });
    if (!data)
        return _jsx(Empty, { children: "Comparing\u2026" });
    return (_jsxs(_Fragment, { children: [data.figure ? _jsx("div", { class: "verdict", children: _jsx(Drawn, { figure: data.figure }) }) : _jsx("p", { class: "verdict", children: data.sentence }), _jsxs("section", { class: "card", "aria-label": "Studies", children: [_jsx("h2", { children: "What they found" }), _jsx(Table, { label: "What the studies found", head: ["study", "method", "trials", "failed", "cost", "best", "by trial"], rows: data.studies.map((s) => [
                            _jsx("a", { href: link(s.name), children: s.name }),
                            s.method,
                            `${s.trials}`,
                            `${s.failed}`,
                            exact(s.cost, 4),
                            exact(s.best, 4),
                            s.best_trial === null ? "—" : _jsx("a", { href: link(s.name, `trial/${s.best_trial}`), children: s.best_trial }),
                        ]) })] }), _jsxs("section", { class: "card", "aria-label": "Best after each number of trials", children: [_jsx("h2", { children: "Best value after so many trials" }), _jsx(Table, { label: "Best value after so many trials", head: ["trials", ...data.studies.map((s) => s.name)], rows: data.rows.map((row) => [`${row.trials}`, ...row.values.map((v) => exact(v, 4))]) })] }), _jsx(Best, { studies: data.studies }), data.space.length > 0 && (_jsxs("section", { class: "card", "aria-label": "Spaces", children: [_jsx("h2", { children: "How the first two spaces differ" }), _jsx("ul", { children: data.space.map((line) => _jsx("li", { class: "long", children: line }, line)) })] }))] }));
}
function Best({ studies }) {
    const found = studies.filter((s) => s.best_params !== null);
    const names = [...new Set(found.flatMap((s) => Object.keys(s.best_params)))];
    if (!found.length)
        return null;
    return (_jsxs("section", { class: "card", "aria-label": "Best parameters", children: [_jsx("h2", { children: "Parameters of the best trials" }), _jsx(Table, { label: "Parameters of the best trials", head: ["parameter", ...found.map((s) => s.name)], rows: names.map((name) => [name, ...found.map((s) => exact(s.best_params[name], 4))]) })] }));
}
function total(line) {
    return Object.values(line.counts).reduce((sum, n) => sum + n, 0);
}
function joined(names) {
    return names.join(",");
}
function split(text, known) {
    const names = text.split(",").filter((name) => name !== "");
    return known.length ? names.filter((name) => known.includes(name)) : names;
}
