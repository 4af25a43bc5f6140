import { jsx as _jsx, jsxs as _jsxs } from "preact/jsx-runtime";
// Notes and tags of a study or a trial; with the rights to write, they can be changed here.
import { useState } from "preact/hooks";
import { of, post } from "../api.js";
import { may } from "../study.js";
import { Card } from "../ui.js";
import { revision, useGet } from "./kit.js";
const NONE = { note: "", tags: [] };
/** A card with the note and the tags of a trial, or of the study when ``trial`` is null. */
export function Remarks({ study, trial }) {
    const { data, again } = useGet(of(study, "/notes"), revision());
    const [draft, setDraft] = useState(null);
    const [tag, setTag] = useState("");
    const [wrong, setWrong] = useState("");
    const found = (trial === null ? data?.study : data?.trials[String(trial)]) ?? NONE;
    const write = may("worker");
    async function tell(path, body) {
        try {
            await post(of(study, `/${path}`), { trial, ...body });
            setWrong("");
            again();
        }
        catch (error) {
            setWrong(error instanceof Error ? error.message : String(error));
        }
    }
    async function save(event) {
        event.preventDefault();
        await tell("notes", { text: draft ?? "" });
        setDraft(null);
    }
    async function add(event) {
        event.preventDefault();
        if (tag.trim() === "")
            return;
        await tell("tags", { add: [tag.trim()] });
        setTag("");
    }
    if (!write && !found.note && !found.tags.length)
        return null;
    return (_jsxs(Card, { title: "Notes and tags", children: [_jsxs("ul", { class: "chips", "aria-label": "Tags", children: [found.tags.map((name) => (_jsxs("li", { class: "chip", children: [_jsx("span", { children: name }), write && (_jsx("button", { type: "button", class: "bare", "aria-label": `Remove tag ${name}`, onClick: () => tell("tags", { remove: [name] }), children: "\u00D7" }))] }, name))), !found.tags.length && _jsx("li", { class: "muted", children: "no tags" })] }), write && (_jsxs("form", { class: "line", onSubmit: add, children: [_jsx("input", { type: "text", "aria-label": "New tag", placeholder: "new tag", maxLength: 64, value: tag, onInput: (e) => setTag(e.currentTarget.value) }), _jsx("button", { type: "submit", children: "Add tag" })] })), draft === null ? (_jsxs("div", { class: "note-text", children: [found.note ? _jsx("p", { class: "written", children: found.note }) : _jsx("p", { class: "muted", children: "No note yet." }), write && (_jsx("button", { type: "button", onClick: () => setDraft(found.note), children: found.note ? "Edit note" : "Write a note" }))] })) : (_jsxs("form", { onSubmit: save, children: [_jsx("textarea", { "aria-label": "Note", rows: 5, value: draft, onInput: (e) => setDraft(e.currentTarget.value) }), _jsxs("div", { class: "buttons", children: [_jsx("button", { type: "submit", class: "primary", children: "Save" }), _jsx("button", { type: "button", onClick: () => setDraft(null), children: "Cancel" })] })] })), wrong && _jsx("p", { class: "wrong", role: "alert", children: wrong })] }));
}
