// Transfer: settings of the target from small models, and what they are read from.

import { fixed } from "../api.ts";
import { FigureCard } from "../figure.tsx";
import { Answer, useTransfer } from "../parts/answer.tsx";
import type { Rule, Told } from "../parts/answer.tsx";
import { Lead, Table, useQuery } from "../parts/kit.tsx";
import type { Rows } from "../rows.ts";
import { Card, Select } from "../ui.tsx";
import { brief } from "../words.ts";

const HORIZONS: [string, string][] = [["", "as far as proxies tell"], ["shares", "by shares of trainings"], ["published", "by the published law"]];

export function Transfer({ study }: { study: Rows }) {
  const [horizon, setHorizon] = useQuery("horizon", "");
  const { data, error } = useTransfer(study.name, horizon && `?horizon=${encodeURIComponent(horizon)}`);
  return (
    <>
      <Lead>What trainings of small models say of the large one.</Lead>
      {/* A report holds one answer. */}
      {!fixed && <div class="tools"><Select label="Longer trainings" value={horizon} options={HORIZONS} onChange={setHorizon} /></div>}
      <Answer study={study.name} told={data} error={error} />
      <FigureCard study={study.name} kind="transfer" title="From small to large" query={horizon ? { horizon } : {}} />
      {data?.rules.map((rule) => <Evidence key={rule.rule} told={data} rule={rule} />)}
    </>
  );
}

function Evidence({ told, rule }: { told: Told; rule: Rule }) {
  const head = ["Size", "Steps", `Best ${told.parameter}`, "90 %", told.objective, "Trainings", "Diverged"];
  const lines = rule.sizes.map((s) => [
    s.name, s.steps.toLocaleString("en"), brief(s.rate), `${brief(s.low)} … ${brief(s.high)}`, brief(s.loss), `${s.count}`, `${s.diverged}`,
  ]);
  const end = rule.predicted;
  if (end) lines.push([`${told.target.name} (target)`, told.target.steps.toLocaleString("en"), brief(end.rate), `${brief(end.low)} … ${brief(end.high)}`, "", "", ""]);
  return (
    <Card title={rule.rule === told.rule ? `${rule.rule}, chosen` : rule.rule} wide insight={moves(told, rule)}>
      {lines.length > 0 && <Table head={head} rows={lines} label={`What the proxies say under ${rule.rule}`} />}
      {rule.length && <p class="small">Length of training: {rule.length.words}.</p>}
      {rule.refusal && <p class="refusal small"><strong>Refused.</strong> {rule.refusal}</p>}
    </Card>
  );
}

function moves(told: Told, rule: Rule): string {
  const claim = rule.claims ? "Claims that the best rate stays as sizes grow" : "Does not claim that the best rate stays; it is extrapolated";
  if (!rule.drift) return `${claim}.`;
  const [at, low, high] = rule.drift.map((v) => `${v < 0 ? "−" : "+"}${Math.abs(v).toFixed(2)}`);
  return `${claim}. ${rule.length ? "At one length, for" : "For"} each doubling of the size the best ${told.parameter} moved by ${at} doublings (${low} to ${high}).`;
}
