// What needs no browser: working changes in, the question box, the ends of axes. Run: npm test, after npx tsc.

import assert from "node:assert/strict";
import test from "node:test";

const app = new URL("../../src/tunewright/web/static/app/", import.meta.url);
const { merged, column, robust } = await import(new URL("rows.js", app));
const { filter, terms } = await import(new URL("filter.js", app));
const { brief, shown, span } = await import(new URL("words.js", app));

function columns(over = {}) {
  return {
    rev: 1, n: 3, whole: true, name: "s", method: "tpe", created: 0, objectives: [{ name: "loss", goal: "minimize", unit: "" }],
    fidelity: null, best: 1, states: ["completed", "failed"], workers: ["a"], origins: ["tpe"],
    number: [0, 1, 2], state: [0, 0, 1], step: [1, 1, null], began: [0, 1, 2], ended: [1, 2, null], cost: [null, null, null],
    worker: [0, 0, -1], origin: [0, 0, 0], parent: [-1, -1, -1], values: { loss: [3, 0.5, null] },
    params: [
      { name: "lr", kind: "float", log: true, low: 1e-4, high: 1, labels: null, data: [0.1, 0.01, 0.5] },
      { name: "opt", kind: "choice", log: false, low: null, high: null, labels: ["adam", "sgd"], data: [0, 1, null] },
    ],
    ...over,
  };
}

test("what is missing is NaN", () => {
  const rows = merged(null, columns());
  assert.deepEqual([...rows.values.get("loss")], [3, 0.5, NaN]);
  assert.deepEqual([...column(rows, "opt").data], [0, 1, NaN]);
});

test("changes worked in give the same as the whole", () => {
  const first = merged(null, columns());
  const change = columns({
    rev: 2, n: 4, whole: false, number: [2, 3], state: [0, 1], step: [5, null], began: [2, 3], ended: [9, null], cost: [null, null],
    worker: [0, -1], origin: [0, 0], parent: [-1, -1], values: { loss: [0.1, null], acc: [0.9, null] },
    params: [{ ...columns().params[0], data: [0.5, 0.2] }, { ...columns().params[1], data: [1, 0] }],
  });
  const later = merged(first, change);
  assert.equal(later.n, 4);
  assert.deepEqual([...later.values.get("loss").subarray(0, 4)], [3, 0.5, 0.1, NaN]);
  assert.deepEqual([...later.values.get("acc").subarray(0, 4)], [NaN, NaN, 0.9, NaN]);
  assert.deepEqual([...column(later, "opt").data.subarray(0, 4)], [0, 1, 1, 0]);
  assert.deepEqual([...column(later, "state").data.subarray(0, 4)], [0, 0, 0, 1]);
});

test("with a scale a step says what it means, also after changes", () => {
  const first = merged(null, columns({ sizes: ["width 8", "width 16"], places: { 1: "width 8" } }));
  assert.equal(shown(column(first, "step"), 0), "width 8");
  assert.equal(shown(column(first, "step"), 2), "");
  const later = merged(first, columns({ whole: false, number: [0], step: [3], sizes: ["width 8", "width 16"], places: { 3: "width 16" } }));
  assert.deepEqual([0, 1].map((row) => shown(column(later, "step"), row)), ["width 16", "width 8"]);
  assert.equal(shown(column(merged(null, columns()), "step"), 0), "1");
});

test("the question box chooses rows, or says what it did not understand", () => {
  const rows = merged(null, columns());
  const chosen = (text) => [0, 1, 2].filter(filter(text, rows).test);
  assert.deepEqual(chosen("state:completed lr<0.05"), [1]);
  assert.deepEqual(chosen("opt=adam|sgd"), [0, 1]);
  assert.deepEqual(chosen("opt!=adam"), [1, 2]);
  assert.deepEqual(chosen("#2"), [2]);
  assert.deepEqual(chosen("loss>=3"), [0]);
  assert.match(filter("nothing", rows).wrong, /condition/);
  assert.match(filter("rate<1", rows).wrong, /no column rate/);
  assert.match(filter("lr<big", rows).wrong, /number/);
  assert.match(filter("opt=lion", rows).wrong, /never lion/);
  assert.deepEqual(terms('a=1 "two words"<3'), ["a=1", "two words<3"]);
});

test("far outliers do not set the ends of an axis", () => {
  const plain = Array.from({ length: 100 }, (_, i) => i / 100);
  assert.deepEqual(robust(plain), { low: 0, high: 0.99, hidden: 0 });
  const odd = robust([...plain, 1e6, 1e9, Infinity, NaN]);
  assert.equal(odd.hidden, 2);
  assert.ok(odd.high < 5);
  assert.equal(robust([1, 1, 1, 1, 1, 1, 1, 1, 1]).low, 1);
  assert.deepEqual(robust([]), { low: 0, high: 1, hidden: 0 });
});

test("numbers have four digits", () => {
  assert.equal(brief(0.98888888), "0.9889");
  assert.equal(brief(1e-7), "1e-7");
  assert.equal(brief(123456789), "1.235e8");
  assert.equal(brief(null), "–");
  assert.equal(brief(12), "12");
  assert.equal(span(3661), "61 min 1 s");
});

test("durations carry over from seconds to minutes", () => {
  assert.equal(span(119.6), "2 min 0 s");
  assert.equal(span(103), "1 min 43 s");
  assert.equal(span(0.25), "250 ms");
  assert.equal(span(7260), "2 h 1 min");
});
