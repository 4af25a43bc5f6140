// What small models say of the large one: its settings with an interval and their price, or the reason why there are none.

import { of } from "../api.ts";
import { Card, Empty } from "../ui.tsx";
import { brief } from "../words.ts";
import { link, revision, useGet } from "./kit.tsx";

export interface Told {
  target: { name: string; steps: number };
  objective: string;
  parameter: string;
  rule: string;
  settings: Record<string, unknown> | null;
  interval: [number, number] | null;
  refusal: string;
  why: string;
  cost: number;
  warnings: string[];
  rules: Rule[];
}

export interface Rule {
  rule: string;
  claims: boolean;
  refusal: string;
  drift: [number, number, number] | null;
  length: { words: string } | null;
  predicted: { rate: number; low: number; high: number } | null;
  expected: number | null;
  sizes: { name: string; steps: number; rate: number; low: number; high: number; loss: number; count: number; diverged: number; edge: string }[];
}

/** What the server says of the target. */
export function useTransfer(study: string, query = "") {
  return useGet<Told>(of(study, `/transfer${query}`), revision());
}

/** The answer in a card; on the overview with a link to what it is read from. */
export function Answer({ study, told, error }: { study: string; told?: Told | undefined; error?: string }) {
  const alone = told === undefined && error === undefined;
  const got = useTransfer(study);
  const [found, wrong] = alone ? [got.data, got.error] : [told, error];
  const law = found?.rules.find((r) => r.rule === found.rule)?.length;
  const title = found ? `For ${found.target.name}` : "For the target";
  const tools = alone && <a href={link(study, "transfer")}>How that was found</a>;
  if (!found) return <Card title={title} wide tools={tools}><Empty>{wrong || "…"}</Empty></Card>;
  return (
    <Card title={title} wide tools={tools} insight={found.why || undefined}>
      {found.settings && found.interval ? (
        <>
          <dl class="facts settings">
            {Object.entries(found.settings).map(([name, value]) => (
              <div key={name}>
                <dt class="long">{name}</dt>
                <dd class="number long">
                  {typeof value === "number" ? brief(value) : String(value)}
                  {name === found.parameter && <span class="muted"> {brief(found.interval![0])} … {brief(found.interval![1])}</span>}
                </dd>
              </div>
            ))}
          </dl>
          <p class="small">
            Under {found.rule}; the range of {found.parameter} is an interval of 90 percent. {price(found.cost)}
          </p>
          {law && <p class="small">Length of training: {law.words}.</p>}
        </>
      ) : (
        <>
          <p class="refusal"><strong>No settings.</strong> {found.refusal}</p>
          <p class="small">{price(found.cost)}</p>
        </>
      )}
      {found.warnings.length > 0 && (
        <ul class="advice small">
          {found.warnings.map((w) => <li key={w}>{w.charAt(0).toUpperCase() + w.slice(1)}</li>)}
        </ul>
      )}
    </Card>
  );
}

function price(cost: number): string {
  return `The study cost ${brief(cost)} trainings of the target.`;
}
