// The trials of a study as columns of numbers, and how a change is worked in. No DOM here: tested by node.

export interface Objective {
  name: string;
  goal: "minimize" | "maximize";
  unit: string;
}

export interface ParamInfo {
  name: string;
  kind: "float" | "int" | "choice" | "ordinal" | "other";
  log: boolean;
  low: number | null;
  high: number | null;
  labels: string[] | null;
}

type Numbers = (number | null)[];

/** What the server sends; ``whole`` false for the rows that changed. */
export interface Columns {
  rev: number;
  n: number;
  whole: boolean;
  name: string;
  method: string;
  created: number;
  objectives: Objective[];
  fidelity: { name: string; low: number; high: number } | null;
  /** The proxies of a study with a scale, smallest first. */
  sizes: string[];
  /** What each step means with a scale. */
  places: Record<string, string>;
  best: number;
  states: string[];
  state: number[];
  number: number[];
  step: Numbers;
  began: Numbers;
  ended: Numbers;
  cost: Numbers;
  workers: string[];
  worker: number[];
  origins: string[];
  origin: number[];
  parent: number[];
  values: Record<string, Numbers>;
  params: (ParamInfo & { data: Numbers })[];
}

export interface Param extends ParamInfo {
  data: Float64Array;
}

/** The columns in hand; NaN where there is nothing. */
export interface Rows {
  rev: number;
  n: number;
  name: string;
  method: string;
  created: number;
  objectives: Objective[];
  fidelity: Columns["fidelity"];
  sizes: string[];
  places: Map<number, string>;
  best: number;
  states: string[];
  workers: string[];
  origins: string[];
  number: Float64Array;
  state: Float64Array;
  step: Float64Array;
  began: Float64Array;
  ended: Float64Array;
  cost: Float64Array;
  worker: Float64Array;
  origin: Float64Array;
  parent: Float64Array;
  values: Map<string, Float64Array>;
  params: Param[];
}

const PLAIN = ["state", "step", "began", "ended", "cost", "worker", "origin", "parent"] as const;

function grown(old: Float64Array | undefined, n: number): Float64Array {
  if (old && old.length >= n) return old;
  const room = new Float64Array(Math.max(n, Math.ceil((old?.length ?? 0) * 1.5)));
  room.fill(NaN);
  if (old) room.set(old);
  return room;
}

function put(into: Float64Array, at: ArrayLike<number>, what: Numbers | undefined): void {
  if (!what) return;
  for (let i = 0; i < what.length; i++) into[at[i]!] = what[i] ?? NaN;
}

/** Works an answer into the rows; row i is trial i, because trials are numbered from 0 without gaps. */
export function merged(old: Rows | null, sent: Columns): Rows {
  const base = sent.whole ? null : old;
  const { n } = sent;
  const rows: Rows = {
    rev: sent.rev,
    n,
    name: sent.name,
    method: sent.method,
    created: sent.created,
    objectives: sent.objectives,
    fidelity: sent.fidelity,
    sizes: sent.sizes ?? [],
    places: new Map([...(base?.places ?? []), ...Object.entries(sent.places ?? {}).map(([step, words]): [number, string] => [Number(step), words])]),
    best: sent.best,
    states: sent.states,
    workers: sent.workers,
    origins: sent.origins,
    number: grown(base?.number, n),
    state: grown(base?.state, n),
    step: grown(base?.step, n),
    began: grown(base?.began, n),
    ended: grown(base?.ended, n),
    cost: grown(base?.cost, n),
    worker: grown(base?.worker, n),
    origin: grown(base?.origin, n),
    parent: grown(base?.parent, n),
    values: new Map(),
    params: [],
  };
  put(rows.number, sent.number, sent.number);
  for (const name of PLAIN) put(rows[name], sent.number, sent[name]);
  for (const name of new Set([...(base?.values.keys() ?? []), ...Object.keys(sent.values)])) {
    const data = grown(base?.values.get(name), n);
    put(data, sent.number, sent.values[name]);
    rows.values.set(name, data);
  }
  const before = new Map(base?.params.map((p) => [p.name, p]));
  for (const param of sent.params) {
    const data = grown(before.get(param.name)?.data, n);
    put(data, sent.number, param.data);
    rows.params.push({ ...param, data });
  }
  return rows;
}

export interface Column {
  name: string;
  data: Float64Array;
  labels: string[] | null;
  log: boolean;
  low: number | null;
  high: number | null;
  /** What a value means, where that is more than the number. */
  said?: ReadonlyMap<number, string>;
}

function plain(name: string, data: Float64Array, labels: string[] | null = null): Column {
  return { name, data, labels, log: false, low: null, high: null };
}

/** A column by the name that people use for it: a parameter, a metric, or one of the trial's own. */
export function column(rows: Rows, name: string): Column | null {
  const param = rows.params.find((p) => p.name === name);
  if (param) return param;
  const value = rows.values.get(name);
  if (value) return plain(name, value);
  switch (name) {
    case "trial": return plain(name, rows.number);
    case "state": return plain(name, rows.state, rows.states);
    case "worker": return plain(name, rows.worker, rows.workers);
    case "by": return plain(name, rows.origin, rows.origins);
    case "step": return { ...plain(name, rows.step), ...(rows.sizes.length ? { said: rows.places } : {}) };
    case "cost": return plain(name, rows.cost);
    case "began": return plain(name, rows.began);
    case "ended": return plain(name, rows.ended);
    case "parent": return plain(name, rows.parent);
    case "seconds": return plain(name, seconds(rows));
    default: return null;
  }
}

/** Seconds from the first begin to the end of each trial. */
export function seconds(rows: Rows): Float64Array {
  const out = new Float64Array(rows.n);
  for (let i = 0; i < rows.n; i++) out[i] = rows.ended[i]! - rows.began[i]!;
  return out;
}

/** The names of all columns. */
export function columnNames(rows: Rows): string[] {
  return ["trial", "state", ...rows.values.keys(), ...rows.params.map((p) => p.name), "step", "seconds", "cost", "by", "worker"];
}

/** Ends of an axis that leave out far outliers: beyond five deviations from the median, or the outer 2 % if most agree. */
export function robust(values: ArrayLike<number>): { low: number; high: number; hidden: number } {
  const kept = Float64Array.from(Array.from(values).filter(Number.isFinite)).sort();
  const n = kept.length;
  if (!n) return { low: 0, high: 1, hidden: 0 };
  const middle = kept[n >> 1]!;
  const away = Float64Array.from(kept, (v) => Math.abs(v - middle)).sort();
  const deviation = away[n >> 1]! * 1.4826;
  let low = kept[0]!;
  let high = kept[n - 1]!;
  if (n >= 8) {
    const reach = deviation > 0 ? 5 * deviation : Math.max(middle - kept[Math.floor(n * 0.02)]!, kept[Math.floor(n * 0.98)]! - middle);
    if (reach > 0) {
      low = kept.find((v) => v >= middle - reach) ?? low;
      high = kept.findLast((v) => v <= middle + reach) ?? high;
    }
  }
  let hidden = 0;
  for (const v of kept) if (v < low || v > high) hidden++;
  // Leaving out a fifth would be hiding data, not outliers.
  return hidden > 0.2 * n ? { low: kept[0]!, high: kept[n - 1]!, hidden: 0 } : { low, high, hidden };
}
