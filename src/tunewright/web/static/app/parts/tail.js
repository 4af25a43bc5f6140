import { jsx as _jsx } from "preact/jsx-runtime";
// The end of what a trial printed; followed while it runs.
import { useEffect, useRef, useState } from "preact/hooks";
import { of, text } from "../api.js";
import { Card } from "../ui.js";
const EVERY = 2000;
/** A card with the log; nothing where no output was kept. */
export function Tail({ study, trial, running }) {
    const [log, setLog] = useState(null);
    const box = useRef(null);
    const follow = useRef(true);
    useEffect(() => {
        let over = false;
        let timer = 0;
        async function look() {
            // No output was kept of most trials; then there is no card.
            const found = document.hidden ? null : await text(of(study, `/trials/${trial}/log?tail=64000`)).catch(() => null);
            if (over)
                return;
            if (found !== null)
                setLog(found);
            if (running)
                timer = window.setTimeout(look, EVERY);
        }
        void look();
        return () => {
            over = true;
            window.clearTimeout(timer);
        };
    }, [study, trial, running]);
    useEffect(() => {
        const pre = box.current;
        if (pre && follow.current)
            pre.scrollTop = pre.scrollHeight;
    }, [log]);
    if (log === null || log === "")
        return null;
    return (_jsx(Card, { title: running ? "Output, live" : "Output", children: _jsx("pre", { ref: box, class: "code log", tabIndex: 0, "aria-label": "End of the output", onScroll: (e) => {
                const pre = e.currentTarget;
                follow.current = pre.scrollHeight - pre.scrollTop - pre.clientHeight < 8;
            }, children: log }) }));
}
