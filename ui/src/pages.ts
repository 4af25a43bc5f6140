// Which page shows what; each is loaded when it is first gone to.

import type { ComponentType } from "preact";
import type { Rows } from "./rows.ts";

export interface StudyPage {
  words: string;
  load: () => Promise<ComponentType<{ study: Rows }>>;
  /** Whether the page has anything to say about a study. */
  fits?: (rows: Rows) => boolean;
}

const STUDY: Record<string, StudyPage> = {
  overview: { words: "Overview", load: () => import("./pages/overview.tsx").then((m) => m.Overview) },
  explore: { words: "Explore", load: () => import("./pages/explore.tsx").then((m) => m.Explore) },
  trials: { words: "Trials", load: () => import("./pages/trials.tsx").then((m) => m.Trials) },
  parameters: { words: "Parameters", load: () => import("./pages/parameters.tsx").then((m) => m.Parameters) },
  curves: { words: "Curves", load: () => import("./pages/curves.tsx").then((m) => m.Curves), fits: (r) => r.fidelity !== null },
  transfer: { words: "Transfer", load: () => import("./pages/transfer.tsx").then((m) => m.Transfer), fits: (r) => r.sizes.length > 0 },
  pareto: { words: "Pareto", load: () => import("./pages/pareto.tsx").then((m) => m.Pareto), fits: (r) => r.objectives.length > 1 },
  timeline: { words: "Timeline", load: () => import("./pages/timeline.tsx").then((m) => m.Timeline) },
  lineage: { words: "Lineage", load: () => import("./pages/lineage.tsx").then((m) => m.Lineage), fits: (r) => r.parent.subarray(0, r.n).some((p) => p >= 0) },
  inside: { words: "Inside", load: () => import("./pages/inside.tsx").then((m) => m.Inside), fits: (r) => r.fidelity !== null },
  surrogate: { words: "Surrogate", load: () => import("./pages/surrogate.tsx").then((m) => m.Surrogate) },
  stopping: { words: "Stop?", load: () => import("./pages/stopping.tsx").then((m) => m.Stopping) },
  report: { words: "Report", load: () => import("./pages/report.tsx").then((m) => m.Report) },
};

/** Pages of a study by their names in the address, in the order of the menu. */
export const studyPages: ReadonlyMap<string, StudyPage> = new Map(Object.entries(STUDY));
