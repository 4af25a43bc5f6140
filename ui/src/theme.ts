// Light or dark, and the colours that charts take from the style sheet.

import { effect, signal } from "@preact/signals";

export type Mode = "auto" | "light" | "dark";

const system = matchMedia("(prefers-color-scheme: dark)");

function stored(): Mode {
  try {
    const mode = localStorage.getItem("tunewright-mode");
    return mode === "light" || mode === "dark" ? mode : "auto";
  } catch {
    return "auto";
  }
}

/** What the reader wants. */
export const mode = signal<Mode>(stored());
/** Whether it is dark now; charts are drawn anew when it changes. */
export const dark = signal(false);

effect(() => {
  dark.value = mode.value === "dark" || (mode.value === "auto" && system.matches);
  document.documentElement.dataset["mode"] = dark.value ? "dark" : "light";
  try {
    if (mode.value === "auto") localStorage.removeItem("tunewright-mode");
    else localStorage.setItem("tunewright-mode", mode.value);
  } catch {
    // Without storage the choice lasts as long as the page.
  }
});
system.addEventListener("change", () => {
  if (mode.value === "auto") dark.value = system.matches;
  document.documentElement.dataset["mode"] = dark.value ? "dark" : "light";
});

// After Okabe and Ito 2008, each dark (or light) enough for thin lines; the same as in figures drawn by Python.
const LIGHT: Record<string, string> = {
  s0: "#0b66b0", s1: "#b85c00", s2: "#00795a", s3: "#a3457f", s4: "#5b5bd6", s5: "#7a6a00", s6: "#0f7c94", s7: "#7c5a45",
  best: "#0b66b0", failed: "#b3261e", pruned: "#8a5a00", running: "#00795a", muted: "#8b95a5", ink: "#1c2430", band: "#1c2430",
  grid: "#e3e7ee", text: "#4a5565", paper: "#ffffff", mark: "#c2410c",
};
const DARK: Record<string, string> = {
  s0: "#63b3f4", s1: "#f2a65a", s2: "#4cc9a0", s3: "#e393c4", s4: "#a3a3ff", s5: "#d8c64c", s6: "#5fcbe0", s7: "#d2ab92",
  best: "#63b3f4", failed: "#ff8a80", pruned: "#e0b060", running: "#4cc9a0", muted: "#7d8899", ink: "#e7ebf2", band: "#e7ebf2",
  grid: "#2b3340", text: "#a9b4c4", paper: "#171c24", mark: "#ffb86b",
};

/** The colour of a style's first word. */
export function colour(style: string): string {
  const table = dark.value ? DARK : LIGHT;
  return table[style.split(" ", 1)[0] ?? ""] ?? table["ink"]!;
}

/** How opaque a style is. */
export function opacity(style: string): number {
  return style.includes("faint") ? 0.25 : 1;
}

// Viridis of Smith and van der Walt 2015, at eleven places.
const VIRIDIS: [number, number, number][] = [
  [68, 1, 84], [72, 36, 117], [65, 68, 135], [53, 95, 141], [42, 120, 142], [33, 145, 140], [34, 168, 132], [68, 191, 112],
  [122, 209, 81], [189, 223, 38], [253, 231, 37],
];

/** A colour for a value in [0, 1], dark to bright. */
export function viridis(at: number): string {
  const place = Math.min(Math.max(at, 0), 1) * (VIRIDIS.length - 1);
  const i = Math.min(Math.floor(place), VIRIDIS.length - 2);
  const [a, b] = [VIRIDIS[i]!, VIRIDIS[i + 1]!];
  const mix = (k: number): number => Math.round(a[k]! + (place - i) * (b[k]! - a[k]!));
  return `rgb(${mix(0)},${mix(1)},${mix(2)})`;
}
