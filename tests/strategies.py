"""Hypothesis strategies for spaces and logs; a new domain or event must appear here."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import strategies as st

from tunewright.core.constraints import Range
from tunewright.core.domains import Bool, Choice, Domain, Float, Int, Order, Permutation, Scalar, Subset
from tunewright.core.events import (
    Amended,
    Controlled,
    Dropped,
    Edited,
    Ended,
    Enqueued,
    Event,
    Extended,
    Interrupted,
    Noted,
    Paused,
    Record,
    Reported,
    Resumed,
    Saved,
    Signalled,
    Started,
    Tagged,
)
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.core.trial import Ledger

finite = st.floats(-1e6, 1e6, allow_nan=False)


@st.composite
def floats(draw: st.DrawFn) -> Float:
    log = draw(st.booleans())
    low = draw(st.floats(1e-9, 1e3)) if log else draw(finite)
    wide = draw(st.floats(1e-3, 1e6))  # of its own size: below, 64-bit floats cannot tell the codes apart
    high = low * (1 + wide) if log else low + wide * max(1.0, abs(low))
    if not log and draw(st.booleans()):
        return Float(low, high, step=(high - low) / draw(st.integers(1, 20)))
    return Float(low, high, log=log)


@st.composite
def ints(draw: st.DrawFn) -> Int:
    log = draw(st.booleans())
    low = draw(st.integers(1 if log else -1000, 1000))
    width = draw(st.integers(1, 100_000))
    step = 1 if log else draw(st.integers(1, max(1, width // 3)))
    return Int(low, low + width, log=log, step=step)


plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-99, 99),
    finite,
    st.text(max_size=8).filter(lambda s: not any(0xD800 <= ord(c) <= 0xDFFF or c == "\0" for c in s)),
)
options = st.lists(plain, min_size=1, max_size=6, unique_by=lambda v: (type(v).__name__, v))
orders = options.map(Order)
flat_choices = options.map(Choice)
leaves: st.SearchStrategy[Scalar] = st.one_of(floats(), ints(), orders, flat_choices, st.just(Bool()))
permutations = options.map(Permutation)


@st.composite
def subsets(draw: st.DrawFn) -> Subset:
    given = draw(options)
    least = draw(st.integers(0, len(given)))
    return Subset(given, least, draw(st.none() | st.integers(least, len(given))))


@st.composite
def believed(draw: st.DrawFn) -> Domain:
    """A parameter with a guess."""
    domain = draw(leaves)
    guess = domain.coder()[1](draw(st.floats(0, 1)))
    return replace(domain, guess=guess, confidence=draw(st.floats(0, 0.99)))


@st.composite
def ranges(draw: st.DrawFn, parent: Float | Int) -> Range:
    """A condition on a number that some of its values satisfy."""
    _, decode = parent.coder()
    low, high = sorted((decode(draw(st.floats(0, 1))), decode(draw(st.floats(0, 1)))))
    return draw(st.sampled_from([Range(low, None), Range(None, high), Range(low, high)]))


@st.composite
def spaces(draw: st.DrawFn, depth: int = 2, prefix: str = "p") -> Space:
    """Nested spaces with conditions on earlier parameters."""
    domains: dict[str, Domain] = {}
    when: dict[str, dict[str, Any]] = {}
    for i in range(draw(st.integers(1, 4))):
        name = f"{prefix}{i}"
        if depth and draw(st.booleans()):
            branches = {
                f"b{k}": draw(st.one_of(st.none(), spaces(depth=depth - 1, prefix=f"{name}_{k}_")))
                for k in range(draw(st.integers(1, 3)))
            }
            domains[name] = Choice(branches)
        else:
            domains[name] = draw(st.one_of(leaves, leaves, believed(), permutations, subsets()))
        parents = [n for n in domains if n != name and not isinstance(domains[n], Permutation)]
        if parents and draw(st.booleans()):
            parent = draw(st.sampled_from(parents))
            known = domains[parent]
            if isinstance(known, Float | Int):
                when[name] = {parent: draw(ranges(known))}
            elif isinstance(known, Subset):
                when[name] = {parent: draw(st.sampled_from(list(known.options)))}
            elif not isinstance(known, Permutation):
                chosen = st.sampled_from(list(known.options))
                when[name] = {parent: draw(st.lists(chosen, min_size=1, max_size=3))}
    return Space(domains, when=when)


def _possible(draw: st.DrawFn, ledger: Ledger, config: dict[str, Any]) -> Event:
    """An event that may follow on the log folded so far."""
    seq, n = ledger.cursor + 1, len(ledger.trials)
    started = Started(n, config, draw(st.sampled_from([None, 3, 9])))
    kind = draw(
        st.sampled_from([*["live"] * 8, "wait", "wait", "idle", "start", "enqueue", "serve", "note", "edit"])
    )
    if kind == "enqueue":
        return Enqueued(config, draw(st.sampled_from(["", f"key{seq}"])))
    if kind == "serve" and ledger.queue:
        position, item = next(iter(ledger.queue.items()))
        return Started(n, item.config, queue=position, by="queue")
    if kind == "note":
        return Noted("note", {"text": "é"}, draw(st.none() | st.just(0)))
    if kind == "edit":
        return Edited(Space(x=Float(0, 1 + draw(st.integers(0, 3)))).to_dict())
    idle = [t for t in ledger.trials if t.status == "paused"]
    if kind == "idle" and idle:
        trial = draw(st.sampled_from(idle))
        ended = Ended(trial.id, trial.token, "stopped", step=trial.step)
        return draw(st.sampled_from([Resumed(trial.id, trial.step, 9), ended]))
    if kind == "wait" and ledger.waiting:
        trial = draw(st.sampled_from(list(ledger.waiting.values())))
        lost = Ended(trial.id, trial.token, "lost", error="gone")
        return draw(st.sampled_from([Resumed(trial.id, trial.restart, trial.until, by="retry"), lost]))
    if kind == "live" and ledger.running:
        trial = draw(st.sampled_from(list(ledger.running.values())))
        i, token, step = trial.id, trial.token, trial.step
        loss = {"loss": draw(st.floats(-9, 9))}
        return draw(
            st.sampled_from(
                [
                    Reported(i, token, step + 1, loss),
                    Reported(i, token, step + 1, {}, {"loss": "nan"}),
                    Saved(i, token, step, f"t{i}-s{step}"),
                    Paused(i, token, step, f"t{i}-s{step}"),
                    Interrupted(i, token, draw(st.sampled_from(["lost", "preempted", "shutdown"]))),
                    Signalled(i, draw(st.sampled_from(["stop", "pause"]))),
                    Amended(i, {**trial.config, "y": 1}),
                    Ended(i, token, "completed", loss, step, cost=1.0),
                    Ended(i, token, draw(st.sampled_from(["failed", "invalid", "timed_out"])), error="no"),
                ]
            )
        )
    return started if n < 3 or kind == "start" else Noted("idle", {})


def _rarer(draw: st.DrawFn, ledger: Ledger, config: dict[str, Any]) -> Event | None:
    """An event that only some studies meet: a fork, a replicate, a checkpoint given up, longer trainings."""
    n, problem = len(ledger.trials), ledger.problem
    kind = draw(st.sampled_from(["fork", "replicate", "drop", "extend", "zombie", "control", "tag"]))
    if kind == "control":
        return Controlled(draw(st.sampled_from(["pause", "resume", "stop"])))
    if kind == "tag":
        tags = st.lists(st.sampled_from("abc"), max_size=2).map(tuple)
        return Tagged(draw(tags), draw(tags), draw(st.none() | st.integers(0, max(0, n - 1))))
    if kind == "fork" and ledger.saves:
        donor = draw(st.sampled_from(list(ledger.saves)))
        return Started(n, config, 9, (donor, draw(st.integers(0, 9))))
    if kind == "replicate" and n:
        original = draw(st.integers(0, n - 1))
        return Started(n, ledger.trials[original].config, None, (original, 0), why={"replicate_of": original})
    if kind == "drop" and ledger.saves:
        trial, savings = draw(st.sampled_from(list(ledger.saves.items())))
        return Dropped(trial, draw(st.sampled_from([s[1] for s in savings if s is not None])), "gone")
    if kind == "extend" and problem.fidelity is not None and problem.fidelity.high < 20:
        return Extended(problem.fidelity.high + 3, problem.fidelity.high)
    over = [t for t in ledger.trials if t.finished]
    if kind == "zombie" and over:
        return Amended(draw(st.sampled_from(over)).id, {**config, "y": 2})
    return None


@st.composite
def full_logs(draw: st.DrawFn, problem: Problem, most: int = 60) -> list[Record]:
    """Logs that have the rarer events, too; algorithms for one length of training are not told of them."""
    ledger, records = Ledger(problem), []
    for seq in range(1, draw(st.integers(0, most)) + 1):
        config = {"x": draw(st.floats(0, 1))}
        rare = _rarer(draw, ledger, config) if draw(st.integers(0, 3)) == 0 else None
        records.append(Record(seq, float(seq), f"w{seq % 3}", rare or _possible(draw, ledger, config)))
        ledger.apply(records[-1])
    return records


@st.composite
def logs(draw: st.DrawFn, problem: Problem, most: int = 40) -> list[Record]:
    """The log of a study in which anything that may happen does."""
    ledger, records = Ledger(problem), []
    for seq in range(1, draw(st.integers(0, most)) + 1):
        event = _possible(draw, ledger, {"x": draw(st.floats(0, 1))})
        records.append(Record(seq, float(seq), f"w{seq % 3}", event))
        ledger.apply(records[-1])
    return records
