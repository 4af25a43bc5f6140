// Inside runs: hyperparameters that were tuned, or chosen, while a training went on.

import { FigureCard } from "../figure.tsx";
import { Lead } from "../parts/kit.tsx";
import type { Rows } from "../rows.ts";

export function Inside({ study }: { study: Rows }) {
  return (
    <>
      <Lead>Where hyperparameters went while trainings went on.</Lead>
      <FigureCard study={study.name} kind="inside" />
      <FigureCard study={study.name} kind="chosen" />
    </>
  );
}
