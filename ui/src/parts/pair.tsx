// Two choices of different names, such as the axes of a contour.

import { Select } from "../ui.tsx";

interface Props {
  names: string[];
  x: string;
  y: string;
  onChange: (x: string, y: string) => void;
}

/** Two choosers; taking the name of the other one swaps them. */
export function Pair({ names, x, y, onChange }: Props) {
  const choices = names.map((name): [string, string] => [name, name]);
  if (!x || !y) choices.unshift(["", "most important"]);
  return (
    <>
      <Select label="Across" value={x} options={choices} onChange={(v) => onChange(v, v === y ? x : y)} />
      <Select label="Up" value={y} options={choices} onChange={(v) => onChange(v === x ? y : x, v)} />
    </>
  );
}
