// Parameters: which matter, where they do best, how they act together.

import { of } from "../api.ts";
import { FigureCard } from "../figure.tsx";
import { Lead, useGet, useQuery } from "../parts/kit.tsx";
import { Pair } from "../parts/pair.tsx";
import { names } from "../parts/space.ts";
import type { SpaceData } from "../parts/space.ts";
import type { Rows } from "../rows.ts";
import { Select } from "../ui.tsx";

const METHODS: [string, string][] = [
  ["ped-anova", "what the best have in common (PED-ANOVA)"],
  ["fanova", "share of the variance (fANOVA)"],
  ["shapley", "Shapley values"],
  ["ablation", "way from default to best (ablation)"],
  ["local", "slope around the best (LIME)"],
];

export function Parameters({ study }: { study: Rows }) {
  const [method, setMethod] = useQuery("importance", METHODS[0]![0]);
  const { data } = useGet<{ spec: { problem: { space: SpaceData } } }>(of(study.name));
  const all = data ? names(data.spec.problem.space) : study.params.map((p) => p.name);
  return (
    <>
      <Lead>Which parameters matter, where each does best, and how they act together.</Lead>
      <FigureCard
        study={study.name}
        kind="importance"
        query={method === METHODS[0]![0] ? {} : { method }}
        tools={<Select label="Measured by" value={method} options={METHODS} onChange={setMethod} />}
      />
      <FigureCard study={study.name} kind="slice" />
      <Two study={study.name} all={all} />
      <FigureCard study={study.name} kind="interactions" lazy />
      <FigureCard study={study.name} kind="ablation" lazy />
      <FigureCard study={study.name} kind="sensitivity" lazy />
      <FigureCard study={study.name} kind="footprint" lazy />
    </>
  );
}

function Two({ study, all }: { study: string; all: string[] }) {
  const [x, setX] = useQuery("cx", "");
  const [y, setY] = useQuery("cy", "");
  if (all.length < 2) return null;
  // Until both are chosen, the server takes the two that matter most.
  const query: Record<string, string> = x && y && x !== y ? { x, y } : {};
  return (
    <FigureCard
      study={study}
      kind="contour"
      title="Two parameters together"
      query={query}
      lazy
      tools={<Pair names={all} x={x} y={y} onChange={(a, b) => { setX(a); setY(b); }} />}
    />
  );
}
