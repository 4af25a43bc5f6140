// Lineage: which trials are copies of which, and the schedule behind the best.

import { FigureCard } from "../figure.tsx";
import { Lead } from "../parts/kit.tsx";
import type { Rows } from "../rows.ts";

export function Lineage({ study }: { study: Rows }) {
  return (
    <>
      <Lead>Members of a population are copies of copies; what the best was in fact trained with is the chain behind it.</Lead>
      <FigureCard study={study.name} kind="lineage" />
    </>
  );
}
