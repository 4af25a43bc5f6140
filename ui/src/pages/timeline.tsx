// Timeline: who worked on what and when, and what it cost.

import { FigureCard } from "../figure.tsx";
import { Lead } from "../parts/kit.tsx";
import type { Rows } from "../rows.ts";

export function Timeline({ study }: { study: Rows }) {
  return (
    <>
      <Lead>One lane per worker: what each trained, when it waited, what was cut off.</Lead>
      <FigureCard study={study.name} kind="timeline" />
      <FigureCard study={study.name} kind="cost" lazy />
    </>
  );
}
