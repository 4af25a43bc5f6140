"""What every applicable law recommends, side by side, with the laws that contradict each other.

*Use when*: a first guess is wanted for a language model of ordinary size, or the laws are to be seen against each other.

*Do not use when*: training differs from what a law holds for (its conditions say), or runs of your own exist: fit those.

*Paper*: each row names its own.

*Differs*: nothing is averaged. Laws that contradict each other are shown as conflicts, and one is never multiplied by another.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from tunewright.errors import ConfigError
from tunewright.scaling.laws.law import BATCH as BATCH_INPUT
from tunewright.scaling.laws.law import Law, Prediction, short
from tunewright.scaling.laws.published import PUBLISHED

_ORDER = (
    "learning rate",
    "batch size",
    "critical batch size",
    "loss",
    "compute-optimal parameters",
    "compute-optimal tokens",
    "downstream error",
)
_APART = 2.0
_SEQUENCES = 1e4


@dataclass(frozen=True, slots=True)
class Row:
    """One law and what it says.

    Attributes:
        law: The law.
        prediction: Its prediction, None when it refused.
        refused: Why it refused, empty otherwise.
        doubt: Why the law does not apply to this run, empty if it does.
    """

    law: Law
    prediction: Prediction | None
    refused: str
    doubt: str = ""

    @property
    def status(self) -> str:
        """``"inside"``, ``"outside"``, ``"doubtful"`` or ``"refused"``."""
        if self.prediction is None:
            return "refused"
        if self.doubt:
            return "doubtful"
        return "inside" if self.prediction.inside else "outside"


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two laws that must not both be believed.

    Attributes:
        first: Name of a law.
        second: Name of another.
        output: What both are about.
        reason: Why, in a sentence.
    """

    first: str
    second: str
    output: str
    reason: str


@dataclass(frozen=True, slots=True)
class Recommendations:
    """Every applicable law side by side.

    Attributes:
        inputs: What was asked, with what was derived from it.
        rows: One per law that could be asked, sorted by quantity.
        conflicts: Pairs of laws that disagree.
        unasked: Laws that were left out because an input is missing: name and the missing inputs.
        notes: Sentences about what was derived.
    """

    inputs: dict[str, float]
    rows: tuple[Row, ...]
    conflicts: tuple[Conflict, ...]
    unasked: dict[str, tuple[str, ...]]
    notes: tuple[str, ...]

    def of(self, output: str) -> tuple[Row, ...]:
        """The rows about one quantity, such as ``"learning rate"``."""
        return tuple(r for r in self.rows if r.law.output == output)

    def __getitem__(self, name: str) -> Prediction:
        """The prediction of a law.

        Raises:
            ConfigError: If the law was not asked or refused.
        """
        for row in self.rows:
            if row.law.name == name:
                if row.prediction is None:
                    raise ConfigError(row.refused)
                return row.prediction
        raise ConfigError(
            f"A recommendation must be of a law that was asked; got {name!r} among {[r.law.name for r in self.rows]}. "
            f"Pass the inputs that it needs."
        )

    def table(self) -> str:
        """All of it as text."""
        lines = []
        for row in self.rows:
            said = str(row.prediction) if row.prediction is not None else row.refused
            lines.append(f"{row.law.output}: {row.law.name} [{row.status}] {said}")
        lines += [f"conflict, {c.output}: {c.first} and {c.second}: {c.reason}" for c in self.conflicts]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {
            "inputs": self.inputs,
            "laws": [_plain(r) for r in self.rows],
            "conflicts": [
                {"first": c.first, "second": c.second, "output": c.output, "reason": c.reason}
                for c in self.conflicts
            ],
            "unasked": {k: list(v) for k, v in self.unasked.items()},
            "notes": list(self.notes),
        }


def _plain(row: Row) -> dict[str, Any]:
    p = row.prediction
    return {
        "law": row.law.name,
        "output": row.law.output,
        "unit": row.law.unit,
        "status": row.status,
        "value": None if p is None else p.value,
        "low": None if p is None else p.low,
        "high": None if p is None else p.high,
        "warnings": [] if p is None else list(p.warnings),
        "refused": row.refused,
        "doubt": row.doubt,
        "formula": row.law.formula,
        "paper": row.law.paper,
        "confidence": row.law.confidence,
        "conditions": list(row.law.conditions),
        "note": row.law.note,
    }


def recommend(
    *,
    params: float | str | None = None,
    tokens: float | str | None = None,
    flops: float | str | None = None,
    extra: Sequence[Law] = (),
    only: Iterable[str] | None = None,
    batch: float | str | None = None,
    extrapolate: bool = False,
    **known: float | str | None,
) -> Recommendations:
    """Asks every law that the given inputs suffice for.

    Args:
        params: Parameters, as a number or a text like ``"1.3B"``.
        tokens: Training tokens.
        flops: Training compute; with both others given it is 6 params x tokens, and that is noted.
        extra: More laws, such as fits of your own.
        only: Names of laws to ask; all by default.
        batch: The batch size in tokens that you mean to use; it is compared with the laws about batches.
        extrapolate: Answer far outside the boxes too.
        known: Further inputs of laws: ``unique_tokens``, ``loss``, and anchors measured by you, ``base_lr`` and ``base_tokens``,
            ``base_batch`` and ``base_flops``.

    Raises:
        ConfigError: If nothing was given or too little for any law, an input is unknown or has the wrong unit, or a law of ``only``
            is not there.
    """
    laws = _chosen(extra, only)
    given = {"params": params, "tokens": tokens, "flops": flops, **known}
    inputs = _read(laws.values(), {k: v for k, v in given.items() if v is not None})
    meant = None if batch is None else BATCH_INPUT.read(batch)
    notes = [*_about_inputs(inputs, meant)]
    if {"params", "tokens"} <= set(inputs):
        inputs.setdefault("flops", 6 * inputs["params"] * inputs["tokens"])
    rows: list[Row] = []
    unasked: dict[str, tuple[str, ...]] = {}
    for law in laws.values():
        missing = tuple(n for n in law.needs if n not in inputs)
        if missing:
            unasked[law.name] = missing
            continue
        try:
            said = law.predict(extrapolate=extrapolate, **{n: inputs[n] for n in law.needs})
            rows.append(Row(law, said, "", (law.doubt(inputs) if law.doubt else None) or ""))
        except ConfigError as error:
            rows.append(Row(law, None, str(error)))
    if meant is not None:
        notes += _about(meant, rows)
    if not rows:
        near = {n: m for n, m in unasked.items() if set(laws[n].needs) & set(inputs)}
        raise ConfigError(_too_little(inputs, near or unasked))
    if only is not None:
        notes += [f"{n} was not asked: it needs {' and '.join(m)}." for n, m in unasked.items()]
    rows.sort(key=lambda r: _rank(r.law.output))
    notes += _silent(rows, {n: laws[n] for n in unasked}, unasked)
    return Recommendations(inputs, tuple(rows), tuple(_conflicts(rows)), unasked, tuple(notes))


def _about_inputs(inputs: Mapping[str, float], batch: float | None) -> Iterable[str]:
    """What is derived, what contradicts itself, and what may be counted in another unit."""
    for name, value in (("base_batch", inputs.get("base_batch")), ("batch", batch)):
        if value is not None and value < _SEQUENCES:
            yield (
                f"{name} is counted in tokens per step, and {short(value)} are few: if sequences are meant, multiply by their length."
            )
    if not {"params", "tokens"} <= set(inputs):
        return
    usual = 6 * inputs["params"] * inputs["tokens"]
    if "flops" not in inputs:
        yield f"flops = 6 x params x tokens = {usual:.3g}, the usual estimate for a dense transformer."
    elif not 1 / _APART <= inputs["flops"] / usual <= _APART:
        yield (
            f"flops of {inputs['flops']:.3g} are {inputs['flops'] / usual:.3g} times 6 x params x tokens: laws by compute answer for "
            "another run than those by parameters and tokens; leave one of the three out."
        )


def _too_little(inputs: Mapping[str, float], unasked: Mapping[str, tuple[str, ...]]) -> str:
    """Why no law could be asked, with the nearest of those that go by what is there."""
    order = sorted(unasked, key=lambda n: (len(unasked[n]), n))
    wanted = "; ".join(f"{n} needs {' and '.join(unasked[n])}" for n in order[:4])
    return f"No law can be asked with {' and '.join(sorted(inputs))} alone: {wanted}. Pass more of it."


def _silent(
    rows: Sequence[Row], unasked: Mapping[str, Law], missing: Mapping[str, tuple[str, ...]]
) -> Iterable[str]:
    """Laws that could not be asked but contradict one that was: silence would look like agreement."""
    for name, law in unasked.items():
        for row in rows:
            reason = law.contradicts.get(row.law.name) or row.law.contradicts.get(name)
            if reason and row.prediction is not None:
                yield f"{name} was not asked (it needs {' and '.join(missing[name])}) and contradicts {row.law.name}: {reason}."
                break


def _about(batch: float, rows: Sequence[Row]) -> Iterable[str]:
    """How the user's batch compares with every recommended one."""
    for row in rows:
        if row.prediction is not None and row.law.output in ("batch size", "critical batch size"):
            factor = batch / row.prediction.value
            yield f"a batch of {short(batch)} is {factor:.3g} times the {row.law.output} of {row.law.name}."


def _rank(output: str) -> int:
    return _ORDER.index(output) if output in _ORDER else len(_ORDER)


def _chosen(extra: Sequence[Law], only: Iterable[str] | None) -> dict[str, Law]:
    taken = [law.name for law in extra if law.name in PUBLISHED]
    if taken:
        raise ConfigError(
            f"A law of your own needs a name of its own; got {taken}, which are published ones. Rename it."
        )
    laws = {**PUBLISHED, **{law.name: law for law in extra}}
    if only is None:
        return laws
    wanted = list(only)
    absent = [n for n in wanted if n not in laws]
    if absent:
        near = [n for n in sorted(laws) if n.startswith(absent[0])] or difflib.get_close_matches(
            absent[0], laws, 3
        )
        hint = f"Did you mean {' or '.join(near[:3])}?" if near else "Pick one of them."
        raise ConfigError(f"A law must be one of {', '.join(sorted(laws))}; got {', '.join(absent)}. {hint}")
    return {n: laws[n] for n in wanted}


def _read(laws: Iterable[Law], given: dict[str, float | str]) -> dict[str, float]:
    """The inputs as numbers, each checked against its unit once."""
    inputs = {i.name: i for law in PUBLISHED.values() for i in law.inputs} | {
        i.name: i for law in laws for i in law.inputs
    }
    if not given:
        raise ConfigError(
            "A recommendation needs something to go by; got nothing. Pass params and tokens, or flops."
        )
    unknown = sorted(set(given) - set(inputs))
    if unknown:
        raise ConfigError(
            f"Inputs must be among {', '.join(sorted(inputs))}; got {unknown}. Correct the name."
        )
    return {k: inputs[k].read(v) for k, v in given.items()}


def _conflicts(rows: Sequence[Row]) -> Iterable[Conflict]:
    """Declared contradictions, and answers further apart than a factor of two whose intervals do not meet."""
    for a, b in combinations(rows, 2):
        if a.law.output != b.law.output or a.prediction is None or b.prediction is None:
            continue
        reason = a.law.contradicts.get(b.law.name) or b.law.contradicts.get(a.law.name)
        if reason is None and not a.doubt and not b.doubt:
            reason = _apart(a.prediction, b.prediction)
        if reason:
            yield Conflict(a.law.name, b.law.name, a.law.output, reason)


def _apart(a: Prediction, b: Prediction) -> str | None:
    factor = math.exp(abs(math.log(a.value / b.value)))
    ends = [(p.low or p.value, p.high or p.value) for p in (a, b)]
    if factor < _APART or (ends[0][0] <= ends[1][1] and ends[1][0] <= ends[0][1]):
        return None
    return f"{short(a.value)} against {short(b.value)}, a factor of {factor:.3g}"
