// Numbers and times as text.

import type { Column } from "./rows.ts";

/** A number to four significant digits, without a tail of zeros. */
export function brief(value: number | null | undefined): string {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "-∞";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-3) return value.toExponential(3).replace(/\.?0+e/, "e").replace("e+", "e");
  if (Number.isInteger(value)) return String(value);
  const shown = value.toPrecision(4);
  return shown.includes(".") ? shown.replace(/\.?0+$/, "") : shown;
}

/** Seconds as a person would say them. */
export function span(seconds: number | null | undefined): string {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "–";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 100) return `${brief(Number(seconds.toPrecision(3)))} s`;
  const whole = Math.round(seconds);
  const minutes = Math.floor(whole / 60);
  if (minutes < 100) return `${minutes} min ${whole % 60} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${minutes % 60} min` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** A time since 1970 in seconds, in the reader's own zone. */
export function when(seconds: number | null | undefined): string {
  if (!seconds) return "–";
  return new Date(seconds * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

/** How long ago a time in seconds is. */
export function ago(seconds: number): string {
  const passed = Date.now() / 1000 - seconds;
  return passed < 5 ? "now" : `${span(passed).replace(/ \d+ s$/, "")} ago`;
}

/** A count with its noun. */
export function count(n: number, noun: string): string {
  return `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;
}

/** What a table says of a row in a column. */
export function shown(c: Column, row: number): string {
  const v = c.data[row]!;
  if (Number.isNaN(v)) return "";
  if (c.labels) return c.labels[v] ?? "";
  if (c.said) return c.said.get(v) ?? brief(v);
  return c.name === "seconds" ? span(v) : brief(v);
}
