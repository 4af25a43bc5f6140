// Which page shows what; each is loaded when it is first gone to.
const STUDY = {
    overview: { words: "Overview", load: () => import("./pages/overview.js").then((m) => m.Overview) },
    explore: { words: "Explore", load: () => import("./pages/explore.js").then((m) => m.Explore) },
    trials: { words: "Trials", load: () => import("./pages/trials.js").then((m) => m.Trials) },
    parameters: { words: "Parameters", load: () => import("./pages/parameters.js").then((m) => m.Parameters) },
    curves: { words: "Curves", load: () => import("./pages/curves.js").then((m) => m.Curves), fits: (r) => r.fidelity !== null },
    transfer: { words: "Transfer", load: () => import("./pages/transfer.js").then((m) => m.Transfer), fits: (r) => r.sizes.length > 0 },
    pareto: { words: "Pareto", load: () => import("./pages/pareto.js").then((m) => m.Pareto), fits: (r) => r.objectives.length > 1 },
    timeline: { words: "Timeline", load: () => import("./pages/timeline.js").then((m) => m.Timeline) },
    lineage: { words: "Lineage", load: () => import("./pages/lineage.js").then((m) => m.Lineage), fits: (r) => r.parent.subarray(0, r.n).some((p) => p >= 0) },
    inside: { words: "Inside", load: () => import("./pages/inside.js").then((m) => m.Inside), fits: (r) => r.fidelity !== null },
    surrogate: { words: "Surrogate", load: () => import("./pages/surrogate.js").then((m) => m.Surrogate) },
    stopping: { words: "Stop?", load: () => import("./pages/stopping.js").then((m) => m.Stopping) },
    report: { words: "Report", load: () => import("./pages/report.js").then((m) => m.Report) },
};
/** Pages of a study by their names in the address, in the order of the menu. */
export const studyPages = new Map(Object.entries(STUDY));
