// The end of what a trial printed; followed while it runs.

import { useEffect, useRef, useState } from "preact/hooks";
import { of, text } from "../api.ts";
import { Card } from "../ui.tsx";

const EVERY = 2000;

/** A card with the log; nothing where no output was kept. */
export function Tail({ study, trial, running }: { study: string; trial: number; running: boolean }) {
  const [log, setLog] = useState<string | null>(null);
  const box = useRef<HTMLPreElement>(null);
  const follow = useRef(true);

  useEffect(() => {
    let over = false;
    let timer = 0;
    async function look(): Promise<void> {
      // No output was kept of most trials; then there is no card.
      const found = document.hidden ? null : await text(of(study, `/trials/${trial}/log?tail=64000`)).catch(() => null);
      if (over) return;
      if (found !== null) setLog(found);
      if (running) timer = window.setTimeout(look, EVERY);
    }
    void look();
    return () => {
      over = true;
      window.clearTimeout(timer);
    };
  }, [study, trial, running]);

  useEffect(() => {
    const pre = box.current;
    if (pre && follow.current) pre.scrollTop = pre.scrollHeight;
  }, [log]);

  if (log === null || log === "") return null;
  return (
    <Card title={running ? "Output, live" : "Output"}>
      <pre
        ref={box}
        class="code log"
        tabIndex={0}
        aria-label="End of the output"
        onScroll={(e) => {
          const pre = e.currentTarget;
          follow.current = pre.scrollHeight - pre.scrollTop - pre.clientHeight < 8;
        }}
      >{log}</pre>
    </Card>
  );
}
