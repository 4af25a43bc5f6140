// Pareto: the trade-off between objectives, and how the front grew.

import { FigureCard } from "../figure.tsx";
import { Lead, useQuery } from "../parts/kit.tsx";
import type { Rows } from "../rows.ts";
import { Empty, Select } from "../ui.tsx";

export function Pareto({ study }: { study: Rows }) {
  const names = study.objectives.map((o) => o.name);
  const [x, setX] = useQuery("ox", names[0] ?? "");
  const [y, setY] = useQuery("oy", names[1] ?? "");
  if (names.length < 2) {
    return (
      <>
        <Lead>The trade-off between objectives.</Lead>
        <Empty>This study has one objective, {names[0]}: there is nothing to trade off. See its progress on Overview.</Empty>
      </>
    );
  }
  const choices: [string, string][] = names.map((n) => [n, n]);
  return (
    <>
      <Lead>What one objective costs in the other; no trial beats those on the front.</Lead>
      <FigureCard
        study={study.name}
        kind="pareto"
        query={names.length > 2 ? { x, y } : {}}
        tools={
          names.length > 2 && (
            <>
              <Select label="Across" value={x} options={choices.filter(([n]) => n !== y)} onChange={setX} />
              <Select label="Up" value={y} options={choices.filter(([n]) => n !== x)} onChange={setY} />
            </>
          )
        }
      />
      <FigureCard study={study.name} kind="hypervolume" />
      <FigureCard study={study.name} kind="attainment" lazy />
    </>
  );
}
