// Curves: every training by step or by time, the best few bright.

import { FigureCard } from "../figure.tsx";
import { Lead, useQuery } from "../parts/kit.tsx";
import type { Rows } from "../rows.ts";
import { Select } from "../ui.tsx";

export function Curves({ study }: { study: Rows }) {
  const [x, setX] = useQuery("x", "step");
  const [top, setTop] = useQuery("top", "5");
  const [metric, setMetric] = useQuery("metric", "");
  const metrics = [...study.values.keys()].map((m): [string, string] => [m, m]);
  const first = study.objectives[0]?.name ?? "";
  return (
    <>
      <Lead>How each training went; where it was compared with the others and stopped.</Lead>
      <FigureCard
        study={study.name}
        kind="curves"
        query={{ ...(x === "time" ? { x } : {}), ...(top !== "5" ? { top } : {}), ...(metric && metric !== first ? { metric } : {}) }}
        tools={
          <>
            <Select label="Across" value={x} options={[["step", study.sizes.length ? "sizes" : "steps"], ["time", "time"]]} onChange={setX} />
            <Select
              label="Bright"
              value={top}
              options={[["3", "best 3"], ["5", "best 5"], ["10", "best 10"], ["20", "best 20"]]}
              onChange={setTop}
            />
            {metrics.length > 1 && (
              <Select label="Metric" value={metric || first} options={metrics} onChange={setMetric} />
            )}
          </>
        }
      />
    </>
  );
}
