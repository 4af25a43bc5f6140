"""The demo: tunes a real model, says how sure it is of the winner, and compares with random search at equal cost."""

from __future__ import annotations

import importlib.util
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, Literal

import click
import numpy as np

from tunewright import catalog, demo_tasks
from tunewright.analysis.report import Section, html
from tunewright.analysis.winner import Estimate, Verdict, candidates, estimate, judge, paired
from tunewright.core.algorithm import Action, Algorithm
from tunewright.core.domains import Choice, Order
from tunewright.core.events import Event, Reported
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.core.trial import Trial
from tunewright.errors import ConfigError, missing_extra
from tunewright.run.executor import Executor, Sink
from tunewright.run.messages import Segment
from tunewright.run.processes import Processes
from tunewright.samplers.random import Random
from tunewright.study import Study

# A copy of a network has the shape of the original; models that are not trained by epoch are trained anew.
_SHAPE = ("width", "depth", "kernel", "degree", "leaves")
_OTHER = 1_000_003  # the baseline draws from a stream of its own
Progress = Literal["auto", "live", "plain", "jsonl", "none"]


@dataclass(frozen=True, slots=True)
class Size:
    """How much the demo does.

    Attributes:
        few: Fewest steps after which the model families can be compared.
        full: Steps of a full training.
        trials: Trials of the search.
        top: Candidates of each search that are re-evaluated.
        seeds: Fresh seeds for each of them.
    """

    few: int
    full: int
    trials: int
    top: int
    seeds: int


FULL, QUICK = Size(3, 27, 300, 3, 8), Size(1, 9, 40, 2, 4)


@dataclass(slots=True)
class CappedState:
    """State of what is wrapped, and the cost reported so far."""

    inner: Any
    spent: float = 0.0


@dataclass(frozen=True, slots=True)
class Capped:
    """Begins nothing more once trials have reported a total cost, so that two searches can be given the same.

    Args:
        sampler: Chooses configurations.
        cost: Total cost, in the study's unit.
    """

    sampler: Algorithm[Any]
    cost: float

    def init(self, problem: Problem) -> CappedState:
        """The state before the first event."""
        return CappedState(self.sampler.init(problem))

    def tell(self, state: CappedState, events: Sequence[Event]) -> CappedState:
        """Adds up what was reported."""
        spent = state.spent + sum(e.cost or 0.0 for e in events if isinstance(e, Reported))
        return CappedState(self.sampler.tell(state.inner, events), spent)

    def ask(self, state: CappedState, slots: int, rng: np.random.Generator) -> tuple[Action, ...]:
        """What the sampler would do, as long as there is something left to spend."""
        return self.sampler.ask(state.inner, slots, rng) if state.spent < self.cost else ()


class Shared:
    """An executor that outlives a run, so that the next study finds its workers warm.

    Args:
        inner: Does the work; close it when all runs are over.
    """

    def __init__(self, inner: Executor) -> None:
        self.capacity = inner.capacity
        self._inner = inner

    def connect(self, sink: Sink) -> None:
        """Says where messages go from now on."""
        self._inner.connect(sink)

    def submit(self, segment: Segment) -> None:
        """Takes a segment."""
        self._inner.submit(segment)

    def signal(self, trial: int, verdict: Literal["stop", "pause"]) -> None:
        """Tells a running segment to end."""
        self._inner.signal(trial, verdict)

    def poll(self, timeout: float) -> None:
        """Delivers messages."""
        self._inner.poll(timeout)

    def kill(
        self, trial: int, outcome: Literal["timed_out", "out_of_memory", "killed", "lost"], reason: str
    ) -> None:
        """Ends a running segment at once."""
        self._inner.kill(trial, outcome, reason)

    def close(self) -> None:
        """Leaves the workers running for the next study."""


@dataclass(slots=True)
class _Demo:
    """What the parts of the demo share."""

    size: Size
    name: str
    storage: str
    executor: Shared
    work: Callable[..., Any]
    progress: Progress
    seed: int
    say: Callable[[str], None]


def run_demo(
    *,
    quick: bool = False,
    method: str = "auto",
    storage: str | None = None,
    report: str | None = "demo-report.html",
    progress: Progress = "auto",
    seed: int = 0,
    workers: int = 2,
) -> dict[str, Any]:
    """Tunes a digit classifier, re-evaluates the best, compares with random search, and writes a report.

    Repeating the call with the same storage continues where it was, and does nothing that is done already.

    Args:
        quick: Less of everything, for well under half a minute.
        method: Name from the catalogue.
        storage: Path or URL of the studies; a temporary SQLite file when None.
        report: Where to write the HTML report; None for nowhere.
        progress: How to show progress; with ``"jsonl"`` and ``"none"`` nothing else is printed either.
        seed: Root of all randomness of tuning.
        workers: Worker processes.

    Returns:
        A JSON-able summary with the winner, its confidence, its test error, and the random baseline.

    Raises:
        MissingExtra: If scikit-learn is not installed.
        ConfigError: If an argument cannot be used.
        KeyboardInterrupt: If a signal interrupts it; running trials have been paused and saved.
    """
    if importlib.util.find_spec("sklearn") is None:
        raise missing_extra("sklearn", "trees")
    size = QUICK if quick else FULL
    began = time.monotonic()
    with ExitStack() as stack:
        if storage is None:
            place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tunewright-"))) / "demo.db"
            storage = str(place)
        work = partial(demo_tasks.train, full=size.full)
        processes = Processes(work, workers)
        stack.callback(processes.close)
        name = f"digits{'-quick' if quick else ''}-{method}-{seed}"
        say = (lambda _: None) if progress in ("jsonl", "none") else click.echo
        demo = _Demo(size, name, storage, Shared(processes), work, progress, seed, say)
        summary = _play(demo, method, report)
    summary["seconds"] = round(time.monotonic() - began, 2)
    say(f"Took {summary['seconds']:.0f} s." + (f" Report: {report}" if report else ""))
    return summary


def _play(demo: _Demo, method: str, report: str | None) -> dict[str, Any]:
    """The three acts: search, random search at the same cost, re-evaluation."""
    net = "PyTorch" if demo_tasks.has_torch() else "scikit-learn"
    demo.say(
        f"Tuning a digit classifier: SVM, boosted trees or a {net} network, {demo.size.trials} trials ..."
    )
    with _open(demo, demo.name, method, demo.seed) as tuned:
        _run(demo, tuned, demo.size.trials, demo.progress)
        spent = cost_of(tuned)
        demo.say(f"\nRandom search at the same cost, {spent:.1f} s of training ...")
        with _open(demo, f"{demo.name}-random", Capped(Random(), spent), demo.seed + _OTHER) as random:
            _run(demo, random, None, demo.progress)
            ours, theirs = candidates(tuned, demo.size.top), candidates(random, demo.size.top)
            demo.say(f"\nRe-evaluating the best {demo.size.top} of each on {demo.size.seeds} fresh seeds ...")
            errors, tests = _confirm(demo, [*ours, *theirs])
            result = _compare(tuned, random, ours, theirs, errors, tests)
        demo.say("\n" + "\n".join(result.sentences))
        if report is not None:
            Path(report).write_text(html(tuned, extra=result.sections()), encoding="utf-8")
            result.summary["report"] = str(report)
        result.summary["method"] = tuned.method
    return result.summary


def _open(demo: _Demo, name: str, method: str | Algorithm[Any], seed: int) -> Study:
    return Study.open(
        name,
        demo_tasks.space(),
        minimize="error",
        steps=(demo.size.few, demo.size.full),
        method=method,
        options=_options(method),
        seed=seed,
        storage=demo.storage,
    )


def _options(method: str | Algorithm[Any]) -> dict[str, Any]:
    """What a population has to be told: which parameters cannot change while a training goes on."""
    if not isinstance(method, str) or method == "auto":
        return {}
    known = {f.name for f in fields(catalog.find(method.partition("(")[0].strip()).load())}
    return {"fixed": list(_SHAPE)} if "fixed" in known else {}


def _run(demo: _Demo, study: Study, trials: int | None, progress: Progress) -> None:
    """Runs one study; an interruption ends the demo instead of letting it go on to the next part."""
    summary = study.run(demo.work, trials=trials, progress=progress, executor=demo.executor)
    if summary.why == "interrupted":
        demo.say(f"\nInterrupted. What is done is kept in {demo.storage} unless that was a temporary place.")
        raise KeyboardInterrupt


def cost_of(study: Study) -> float:
    """CPU seconds of training over all reports of a study, those of repeated steps included."""
    records = study.session.store.read(study.session.info.id)
    return sum(r.event.cost or 0.0 for r in records if isinstance(r.event, Reported))


def _confirm(demo: _Demo, found: list[Trial]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Validation and test errors of candidates on fresh seeds, both of shape ``(k, s)``; trained by the workers."""
    texts = [json.dumps(t.config, sort_keys=True) for t in found]
    seeds = [demo_tasks.FRESH + i for i in range(demo.size.seeds)]
    space = Space(candidate=Choice(list(dict.fromkeys(texts))), seed=Order(seeds))
    with Study.open(
        f"{demo.name}-fresh", space, minimize="error", method="grid", seed=demo.seed, storage=demo.storage
    ) as study:
        _run(demo, study, None, "none")
        at = {(t.config["candidate"], t.config["seed"]): t.metrics for t in study.trials if t.metrics}
    if any((text, seed) not in at for text in texts for seed in seeds):
        raise ConfigError(
            "The demo needs every re-evaluation; some were interrupted. Run the same command again to continue."
        )
    errors, tests = (np.array([[at[t, s][m] for s in seeds] for t in texts]) for m in ("error", "test"))
    return errors, tests


@dataclass(slots=True)
class _Result:
    """What came out, for people and for machines."""

    summary: dict[str, Any]
    sentences: list[str]
    table: Sequence[tuple[str, ...]]

    def sections(self) -> list[Section]:
        """What the report says above its charts."""
        head = (
            "",
            "trial",
            "model",
            "error seen by the search",
            "error on fresh seeds",
            "error on the test part",
        )
        return [Section("Winner and baseline", tuple(self.sentences), head, tuple(self.table))]


def _compare(
    tuned: Study,
    random: Study,
    ours: list[Trial],
    theirs: list[Trial],
    errors: np.ndarray[Any, Any],
    tests: np.ndarray[Any, Any],
) -> _Result:
    """Picks the winner of each search on fresh seeds and compares them on the test part."""
    k = len(ours)
    us = judge([t.metrics["error"] for t in ours], errors[:k], tests[:k])
    them = judge([t.metrics["error"] for t in theirs], errors[k:], tests[k:])
    gap = paired(tests[us.index], tests[k + them.index])
    winner, rival = ours[us.index], theirs[them.index]
    outcome = "tuned" if gap.low > 0 else "random" if gap.high < 0 else "tie"
    costs = {"tuned": cost_of(tuned), "random": cost_of(random)}
    assert us.test is not None
    assert them.test is not None
    spread = 1.96 * float(np.sqrt(us.test.mean * (1 - us.test.mean) / demo_tasks.TEST_SIZE))
    sentences = [
        f"Winner: trial {winner.number}, {describe(winner.config)}",
        us.sentence(percent, "error"),
        f"Test error, on {demo_tasks.TEST_SIZE} images that no search saw: {interval(us.test)} over "
        f"{us.test.n} seeds; another test set of that size would move it by about {100 * spread:.1f} points.",
        f"Random search at the same training cost ({costs['random']:.1f} s against {costs['tuned']:.1f} s, "
        f"{len(random.trials)} full trainings against {len(tuned.trials)} trials): {interval(them.test)}, "
        f"{describe(rival.config)}",
        _verdict(outcome, gap),
    ]
    table = [
        (
            who,
            str(t.number),
            t.config["model"],
            percent(t.metrics["error"]),
            interval(v.loss[i]),
            interval(estimate(tests[row + i])),
        )
        for who, found, v, row in (("tuned", ours, us, 0), ("random", theirs, them, k))
        for i, t in enumerate(found)
    ]
    summary = {
        "best": _entry(winner, us),
        "random": _entry(rival, them),
        "gap": gap.to_dict(),
        "outcome": outcome,
        "trials": {"tuned": len(tuned.trials), "random": len(random.trials)},
        "training_seconds": {who: round(c, 3) for who, c in costs.items()},
    }
    return _Result(summary, sentences, table)


def _entry(trial: Trial, verdict: Verdict) -> dict[str, Any]:
    assert verdict.test is not None
    return {
        "trial": trial.number,
        "params": dict(trial.config),
        "tuned_error": verdict.tuned,
        "fresh_error": verdict.loss[verdict.index].to_dict(),
        "confidence": round(verdict.confidence, 4),
        "optimism": verdict.optimism,
        "test_error": verdict.test.to_dict(),
    }


def _verdict(outcome: str, gap: Estimate) -> str:
    """Who did better on the test part, by how much, and whether that is more than chance."""
    ahead = "the tuned model" if gap.mean >= 0 else "random search"
    low, high = sorted((100 * gap.low, 100 * gap.high), key=abs)
    by = f"{100 * abs(gap.mean):.2f} points"
    if outcome == "tie":
        return (
            f"No clear difference: on the same seeds {ahead} is ahead by {by}, and the 95 % interval of the gap, "
            f"{100 * gap.low:+.2f} to {100 * gap.high:+.2f}, holds zero."
        )
    word = "The tuned model wins" if outcome == "tuned" else "Random search won this time"
    return (
        f"{word}: on the same seeds {ahead} is better by {by}, 95 % interval {abs(low):.2f} to {abs(high):.2f}. "
        "This is one search of either kind; another seed may end otherwise."
    )


def percent(value: float) -> str:
    """A share in percent."""
    return f"{100 * value:.2f} %"


def interval(of: Estimate) -> str:
    """A share with its interval, in percent."""
    return f"{100 * of.mean:.2f} % [{100 * of.low:.2f}, {100 * of.high:.2f}]"


def describe(config: dict[str, Any]) -> str:
    """A configuration on one line, numbers to three digits."""
    return ", ".join(f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in config.items())
