import { Fragment as _Fragment, jsx as _jsx, jsxs as _jsxs } from "preact/jsx-runtime";
// The parameters of a trial as a command, as Python and as JSON, to be copied.
import { useState } from "preact/hooks";
import { of } from "../api.js";
import { Card, Select, say } from "../ui.js";
import { useGet } from "./kit.js";
/** A card with the text and a button that copies it. */
export function Copying({ study, trial }) {
    const { data } = useGet(of(study, `/trials/${trial}/copy`));
    const [form, setForm] = useState("");
    if (!data)
        return null;
    const forms = [["python", "Python", data.python], ["json", "JSON", data.json]];
    if (data.command !== null)
        forms.unshift(["command", "Command", data.command]);
    const chosen = forms.find(([name]) => name === form) ?? forms[0];
    async function copy() {
        try {
            await navigator.clipboard.writeText(chosen[2]);
            say("Copied.");
        }
        catch {
            say("The browser does not allow it here; select the text instead.", true);
        }
    }
    return (_jsx(Card, { title: "Use it elsewhere", tools: _jsxs(_Fragment, { children: [_jsx(Select, { label: "As", value: chosen[0], options: forms.map(([name, title]) => [name, title]), onChange: setForm }), _jsx("button", { type: "button", onClick: copy, children: "Copy" })] }), children: _jsx("pre", { class: "code", tabIndex: 0, "aria-label": `Parameters as ${chosen[1]}`, children: chosen[2] }) }));
}
