import { jsx as _jsx, jsxs as _jsxs } from "preact/jsx-runtime";
// A form for one configuration, checked against the space while it is typed.
import { useEffect, useRef, useState } from "preact/hooks";
import { of, post } from "../api.js";
import { active, options, parse, range, written } from "./space.js";
/** A dialog that puts a configuration into the queue. */
export function Enqueue({ study, space, title, start, onClose }) {
    const box = useRef(null);
    const [texts, setTexts] = useState(() => texted(start));
    const [refused, setRefused] = useState("");
    useEffect(() => box.current?.showModal(), []);
    const { config, errors, shown } = checked(space, texts);
    const wrong = Object.keys(errors).length;
    async function send(event) {
        event.preventDefault();
        if (wrong) {
            box.current?.querySelector("[aria-invalid=true]")?.focus();
            return;
        }
        try {
            await post(of(study, "/queue"), { params: config });
            onClose("In the queue: the next free worker trains it.");
        }
        catch (error) {
            setRefused(error instanceof Error ? error.message : String(error));
        }
    }
    return (_jsx("dialog", { ref: box, class: "sheet", "aria-labelledby": "enqueue-title", onClose: () => onClose(), children: _jsxs("form", { onSubmit: send, noValidate: true, children: [_jsx("h2", { id: "enqueue-title", children: title }), _jsx("p", { class: "muted", children: "Leave a field empty to have its value drawn when the trial starts." }), _jsx("div", { class: "fields", children: shown.map((domain) => (_jsx(Field, { domain: domain, text: texts[domain.name] ?? "", error: errors[domain.name], onText: (text) => setTexts({ ...texts, [domain.name]: text }) }, domain.name))) }), refused && _jsx("p", { class: "wrong", role: "alert", children: refused }), _jsxs("div", { class: "buttons", children: [_jsx("button", { type: "submit", class: "primary", children: "Enqueue" }), _jsx("button", { type: "button", onClick: () => onClose(), children: "Cancel" })] })] }) }));
}
function Field({ domain, text, error, onText }) {
    const id = `field-${encodeURIComponent(domain.name)}`;
    const choices = options(domain);
    const common = {
        id,
        "aria-invalid": error ? "true" : "false",
        "aria-describedby": `${id}-hint`,
    };
    return (_jsxs("div", { class: "field", children: [_jsx("label", { for: id, children: domain.name }), choices !== null ? (_jsxs("select", { ...common, value: text, onChange: (e) => onText(e.currentTarget.value), children: [_jsx("option", { value: "", children: "(drawn)" }), choices.map((option) => _jsx("option", { value: written(option), children: written(option) }, written(option)))] })) : (_jsx("input", { ...common, type: "text", inputMode: domain.type === "float" || domain.type === "int" ? "decimal" : "text", value: text, onInput: (e) => onText(e.currentTarget.value) })), _jsx("span", { id: `${id}-hint`, class: error ? "wrong hint" : "muted hint", children: error ? `${domain.name} ${error}` : range(domain) })] }));
}
function texted(config) {
    return Object.fromEntries(Object.entries(config).map(([name, value]) => [name, written(value)]));
}
/** What the fields come to: a configuration, what is wrong with them, and which there are. */
function checked(space, texts) {
    let config = {};
    const errors = {};
    // A field may open others, so values are read again until nothing new appears.
    for (let before = -1; before !== Object.keys(config).length;) {
        before = Object.keys(config).length;
        const next = {};
        for (const domain of active(space, config)) {
            const text = texts[domain.name] ?? "";
            delete errors[domain.name];
            if (text === "")
                continue;
            const found = parse(domain, text);
            if ("error" in found)
                errors[domain.name] = found.error;
            else
                next[domain.name] = found.value;
        }
        config = next;
    }
    return { config, errors, shown: active(space, config) };
}
