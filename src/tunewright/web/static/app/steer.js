import { Fragment as _Fragment, jsx as _jsx, jsxs as _jsxs } from "preact/jsx-runtime";
// What people may do to a study as a whole: pause, resume, stop, enqueue.
import { useState } from "preact/hooks";
import { fixed, of, post } from "./api.js";
import { Enqueue } from "./parts/enqueue.js";
import { useGet } from "./parts/kit.js";
import { may } from "./study.js";
import { say } from "./ui.js";
const WORDS = {
    pause: "Paused: no new trial begins.",
    resume: "Goes on.",
    stop: "Stops: everybody who works on it saves and leaves.",
};
export function Steer({ study }) {
    const [adding, setAdding] = useState(false);
    const { data } = useGet(adding ? of(study) : null);
    if (fixed || !may("worker"))
        return null;
    const wish = (action) => {
        post(of(study, "/control"), { action }).then(() => say(WORDS[action] ?? "Done."), (e) => say(e instanceof Error ? e.message : String(e), true));
    };
    return (_jsxs("div", { class: "tools", role: "group", "aria-label": "Steer the study", children: [may("admin") && (_jsxs(_Fragment, { children: [_jsx("button", { type: "button", class: "plain", onClick: () => wish("pause"), children: "Pause" }), _jsx("button", { type: "button", class: "plain", onClick: () => wish("resume"), children: "Resume" }), _jsx("button", { type: "button", class: "plain", onClick: () => window.confirm(`Stop ${study}? Trials that run are saved.`) && wish("stop"), children: "Stop" })] })), _jsx("button", { type: "button", class: "plain", onClick: () => setAdding(true), children: "Enqueue" }), adding && data && (_jsx(Enqueue, { study: study, space: data.spec.problem.space, title: "Try a configuration next", start: {}, onClose: (said) => {
                    setAdding(false);
                    if (said)
                        say(said);
                } }))] }));
}
