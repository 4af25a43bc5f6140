// The study in view: its rows, kept up to date, and one selection that every chart shares.

import { batch, computed, effect, signal } from "@preact/signals";
import { Refusal, get, listen, of } from "./api.ts";
import { filter } from "./filter.ts";
import { asked, choose } from "./route.ts";
import { column, merged } from "./rows.ts";
import type { Column, Columns, Rows } from "./rows.ts";

/** Rows of the study in view, null until they are there. */
export const rows = signal<Rows | null>(null);
/** Why there are none. */
export const trouble = signal<Refusal | null>(null);
/** What the server can do for us here. */
export const rights = signal<"read" | "worker" | "admin">("read");
/** The trial that the pointer is on, -1 for none. */
export const pointed = signal(-1);

const REST = 250; // milliseconds between two repaints: four a second are plenty for people

let current = "";
let silence: () => void = () => undefined;
let due = 0;
let busy = false;
let again = false;

/** Takes a study into view, or none. */
export function view(study: string): void {
  if (study === current) return;
  current = study;
  silence();
  batch(() => {
    rows.value = null;
    trouble.value = null;
    pointed.value = -1;
  });
  if (!study) return;
  void fetched(study, null).then(() => {
    if (study === current) silence = listen(study, () => rows.value?.rev ?? 0, () => soon(study));
  });
}

/** Looks for changes now. */
export function refresh(): void {
  soon(current);
}

function soon(study: string): void {
  if (study !== current) return;
  again = true;
  if (document.hidden || due || busy) return;
  due = window.setTimeout(() => {
    due = 0;
    again = false;
    void fetched(study, rows.value);
  }, REST);
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && again) soon(current);
});

async function fetched(study: string, old: Rows | null): Promise<void> {
  busy = true;
  try {
    const sent = await get<Columns>(of(study, `/columns${old ? `?since=${old.rev}` : ""}`));
    if (study !== current) return;
    batch(() => {
      rows.value = merged(old, sent);
      trouble.value = null;
    });
  } catch (error) {
    if (study === current && error instanceof Refusal) trouble.value = error;
  } finally {
    busy = false;
    if (again && study === current) soon(study);
  }
}

// ---------------------------------------------------------------------- the selection

/** Ranges by column: from the brushes of all charts. */
export type Brushes = Record<string, [number, number]>;

function readBrushes(text: string): Brushes {
  const out: Brushes = {};
  for (const part of text.split(";")) {
    const [name = "", low = "", high = ""] = part.split("~");
    if (name && low !== "" && high !== "" && !Number.isNaN(+low) && !Number.isNaN(+high)) {
      out[unescapeName(name)] = [+low, +high];
    }
  }
  return out;
}

const escapeName = (name: string): string => name.replace(/[%~;]/g, encodeURIComponent).replaceAll("~", "%7E");
const unescapeName = (name: string): string => name.replaceAll("%7E", "~").replaceAll("%3B", ";").replaceAll("%25", "%");

/** Ranges that rows have to be in, from the address. */
export const brushes = computed(() => readBrushes(asked("sel")));
/** Text of the question box, from the address. */
export const question = computed(() => asked("q"));

/** Sets or, with null, lifts the range of a column. */
export function brush(name: string, range: [number, number] | null): void {
  const all = { ...brushes.value };
  if (range) all[name] = [Number(range[0].toPrecision(6)), Number(range[1].toPrecision(6))];
  else delete all[name];
  choose({ sel: Object.entries(all).map(([n, [a, b]]) => `${escapeName(n)}~${a}~${b}`).join(";") });
}

/** Sets the ranges of several columns at once. */
export function brushBoth(x: string, xs: [number, number] | null, y: string, ys: [number, number] | null): void {
  batch(() => {
    brush(x, xs);
    brush(y, ys);
  });
}

/** Takes everything out of the selection. */
export function clear(): void {
  choose({ sel: "", q: "" });
}

interface Selection {
  mask: Uint8Array;
  size: number;
  wrong: string;
  /** Whether anything is asked for at all. */
  on: boolean;
}

/** Which rows are chosen by all brushes and the question box together. */
export const selection = computed<Selection>(() => {
  const found = rows.value;
  const n = found?.n ?? 0;
  const mask = new Uint8Array(n);
  const text = question.value;
  const ranges = Object.entries(brushes.value);
  if (!found) return { mask, size: 0, wrong: "", on: false };
  const { test, wrong } = filter(text, found);
  const tests: [Column, number, number][] = [];
  for (const [name, [low, high]] of ranges) {
    const data = column(found, name);
    if (data) tests.push([data, low, high]);
  }
  let size = 0;
  for (let row = 0; row < n; row++) {
    if (!test(row)) continue;
    if (!tests.every(([c, low, high]) => c.data[row]! >= low && c.data[row]! <= high)) continue;
    mask[row] = 1;
    size++;
  }
  return { mask, size, wrong, on: (text !== "" && !wrong) || tests.length > 0 };
});

// ---------------------------------------------------------------------- rights

/** Whether the reader may do what needs a right. */
export function may(right: "worker" | "admin"): boolean {
  return rights.value === "admin" || rights.value === right;
}

effect(() => {
  const found = rows.value;
  const name = found?.name;
  document.title = name ? `${name.slice(0, 80)} · Tunewright` : "Tunewright";
});
