// Small parts that every page is made of.

import { signal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { brief } from "./words.ts";

interface CardProps {
  title: string;
  how?: string | undefined;
  insight?: string | undefined;
  tools?: ComponentChildren;
  children?: ComponentChildren;
  wide?: boolean;
}

/** A box with a title, what it says here, and how to read it. */
export function Card({ title, how, insight, tools, children, wide }: CardProps) {
  return (
    <section class={wide ? "card wide" : "card"} aria-label={title}>
      <div class="card-head">
        <h2>{title}</h2>
        {tools && <div class="tools">{tools}</div>}
      </div>
      {insight && <p class="insight">{insight}</p>}
      {children}
      {how && <p class="how muted small">{how}</p>}
    </section>
  );
}

/** What stands where there is nothing yet. */
export function Empty({ children }: { children: ComponentChildren }) {
  return <div class="empty muted">{children}</div>;
}

/** A small thing that can be switched, or taken away by what its label says. */
export function Chip({ children, onClick, label }: { children: ComponentChildren; onClick?: () => void; label?: string }) {
  if (!onClick) return <span class="chip">{children}</span>;
  return (
    <button type="button" class="chip" onClick={onClick} title={label}>
      {children}
      {label && <span aria-hidden="true">✕</span>}
      {label && <span class="unseen">{label}</span>}
    </button>
  );
}

/** A number to four digits. */
export function Num({ value }: { value: number | null | undefined }) {
  return <span class="number">{brief(value)}</span>;
}

const SHAPES: Record<string, string> = {
  completed: "●", running: "◐", paused: "‖", waiting: "○", stopped: "◗", failed: "✕", invalid: "⊘",
  timed_out: "◷", out_of_memory: "▲", lost: "?", killed: "✕", idle: "○", done: "●",
};
const KINDS: Record<string, string> = { completed: "good", done: "good", running: "live", paused: "wait", waiting: "wait", stopped: "wait", idle: "calm" };

/** A state as a shape, a colour and a word. */
export function StateMark({ state }: { state: string }) {
  return (
    <span class={`state ${KINDS[state] ?? "bad"}`}>
      <span aria-hidden="true">{SHAPES[state] ?? "·"}</span> {state.replaceAll("_", " ")}
    </span>
  );
}

/** Switches a chart to its table and back. */
export function AsTable({ on, onChange }: { on: boolean; onChange: (on: boolean) => void }) {
  return (
    <button type="button" class="plain" aria-pressed={on} onClick={() => onChange(!on)}>
      {on ? "Chart" : "Table"}
    </button>
  );
}

interface SelectProps {
  label: string;
  value: string;
  options: readonly (readonly [string, string])[];
  onChange: (value: string) => void;
}

/** A labelled choice. */
export function Select({ label, value, options, onChange }: SelectProps) {
  return (
    <label class="choose">
      <span class="muted small">{label}</span>
      <select value={value} onChange={(e) => onChange(e.currentTarget.value)}>
        {options.map(([v, words]) => (
          <option key={v} value={v}>
            {words}
          </option>
        ))}
      </select>
    </label>
  );
}

// ---------------------------------------------------------------------- messages

const said = signal<{ id: number; text: string; bad: boolean }[]>([]);
let messages = 0;

/** Says something at the edge of the page for some seconds. */
export function say(text: string, bad = false): void {
  const id = ++messages;
  said.value = [...said.value, { id, text, bad }];
  window.setTimeout(() => (said.value = said.value.filter((m) => m.id !== id)), bad ? 10_000 : 4000);
}

/** Where messages appear. */
export function Messages() {
  return (
    <div class="messages" role="status" aria-live="polite">
      {said.value.map((m) => (
        <p key={m.id} class={m.bad ? "bad" : ""}>
          {m.text}
        </p>
      ))}
    </div>
  );
}

// ---------------------------------------------------------------------- hooks

/** Whether an element has been near the window once. */
export function useSeen<T extends Element>(at_once = false) {
  const place = useRef<T>(null);
  const [seen, setSeen] = useState(at_once);
  useEffect(() => {
    const element = place.current;
    if (seen || !element) return;
    const observer = new IntersectionObserver(
      (entries) => entries.some((e) => e.isIntersecting) && setSeen(true),
      { rootMargin: "300px" },
    );
    observer.observe(element);
    return () => observer.disconnect();
  }, [seen]);
  return [place, seen] as const;
}

/** Saves text as a file of the reader's. */
export function save(name: string, data: Blob | string): void {
  const url = typeof data === "string" ? data : URL.createObjectURL(data);
  const link = document.createElement("a");
  link.href = url;
  link.download = name.replace(/[^\p{L}\p{N}._-]+/gu, "-").slice(0, 100);
  link.click();
  if (typeof data !== "string") window.setTimeout(() => URL.revokeObjectURL(url), 1000);
}
