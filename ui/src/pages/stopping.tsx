// Should I stop? One sentence, and the chart that it was read from.

import { FigureCard } from "../figure.tsx";
import { Lead } from "../parts/kit.tsx";
import type { Rows } from "../rows.ts";

export function Stopping({ study }: { study: Rows }) {
  return (
    <div class="verdict stack">
      <Lead>What more trials are expected to gain.</Lead>
      <FigureCard study={study.name} kind="stopping" />
    </div>
  );
}
