// All trials at once: parallel coordinates, any two columns, and the table, under one selection.

import { Parallel } from "../parallel.tsx";
import { Scatter } from "../points.tsx";
import type { Rows } from "../rows.ts";
import { TrialTable } from "../table.tsx";
import { Card } from "../ui.tsx";

export function Explore({ study: rows }: { study: Rows }) {
  return (
    <>
      <Card
        title="Parallel coordinates"
        wide
        how="Each line is a trial, brighter the better; the best twentieth is on top. Drag along an axis to choose a range, click it to lift the range, drag a name to move its axis. A line that passes below an axis has no value there."
      >
        <Parallel rows={rows} />
      </Card>
      <Scatter rows={rows} />
      <Card title="Chosen trials" wide>
        <TrialTable rows={rows} height={360} />
      </Card>
    </>
  );
}
