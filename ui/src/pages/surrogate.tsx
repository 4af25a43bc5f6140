// Surrogate quality: whether the model of this study deserves trust.

import { FigureCard } from "../figure.tsx";
import { Lead } from "../parts/kit.tsx";
import type { Rows } from "../rows.ts";

export function Surrogate({ study }: { study: Rows }) {
  return (
    <>
      <Lead>How well a model predicts trials that it has not seen. Slices, contours and forecasts rest on such a model.</Lead>
      <FigureCard study={study.name} kind="surrogate" />
    </>
  );
}
