"""What a study came to: the best trial, how it compares with the defaults, how to use it, what to do next."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, cast

import click

from tunewright.cli.common import RUN_NOTE, as_dict, command_of
from tunewright.errors import ConfigError

if TYPE_CHECKING:
    from tunewright.analysis.confirmation import Confirmation
    from tunewright.core.trial import Trial
    from tunewright.run.driver import Summary
    from tunewright.study import Study
    from tunewright.view import View

_ENOUGH = 10
_SURE, _MANY = 20, 5000
_MORE = 20
_LONG = 50_000


def best_of(study: View) -> Trial | None:
    """The best trial; the first of the front for several objectives; None when no trial has a result."""
    if study.problem.m > 1:
        return next(iter(study.pareto), None)
    try:
        return study.best
    except ConfigError:
        return None


def _confirmed(study: View) -> Confirmation | None:
    """What confirm found; most studies have no such note, and then nothing is loaded."""
    if all(n.topic == RUN_NOTE for _, n in study.session.sync().notes):
        return None
    from tunewright.confirming import confirmed

    return confirmed(cast(Any, study))


def to_use(study: View) -> Trial | None:
    """The trial to use: the one that was confirmed since the last trial ended, else the best."""
    found = _confirmed(study)
    if found is not None and found.size == len(study.trials):
        return study.trials[found.winner]
    return best_of(study)


def truth(study: View) -> list[str]:
    """What is known about the best beyond its own result: its mean over seeds, and what confirm found."""
    from tunewright.analysis.confirmation import worth
    from tunewright.analysis.pace import number
    from tunewright.core.replicates import pools_of

    found = _confirmed(study)
    if found is not None:
        newer = len(study.trials) - found.size
        late = [f"{newer} trials were begun since; confirm again to count them in."] if newer else []
        return [*found.sentences(), *late]
    best = best_of(study)
    if best is None or study.problem.m > 1:
        return []
    if len(study.trials) > _LONG and not study.session.ledger.replicated:
        # Among so many, equal parameters that nobody asked to have again are not looked for.
        return []
    out, sign = [], study.problem.objectives[0].sign
    pool = next((p for p in pools_of(study.trials, study.problem) if p.trial == best.id), None)
    if pool is not None and pool.count > 1:
        out.append(
            f"Its mean over {pool.count} seeds is {number(sign * pool.mean)} ± {number(pool.error)} (standard error)."
        )
    search = worth(study)
    if search is not None:
        mean, ends = sign * search[1].mean, sorted((sign * search[1].low, sign * search[1].high))
        out.append(
            f"The lowest mean of all, {number(sign * search[0])}, is the best of {search[2]} and so looks better than it "
            f"is: corrected, it is worth {number(mean)} [{number(ends[0])}, {number(ends[1])}]."
        )
    return out


def usage(study: View, trial: Trial) -> str:
    """How to train with the parameters of a trial: a command line, or a call."""
    from tunewright.run import usage as use

    return use.usage(study.session.sync(), trial)


def gain(study: View, trial: Trial) -> str:
    """How a trial compares with the defaults, or with the first completed trial."""
    from tunewright.analysis import outcome

    found = outcome.baseline(study.session.sync())
    return "" if found is None else outcome.gain(study.problem, trial, *found)


def advice(study: Study, trial: Trial | None, where: str) -> str:
    """One next step."""
    from tunewright.analysis.outcome import at_edge
    from tunewright.analysis.pace import number

    counts, name = study.counts, shlex.quote(study.name)
    if trial is None:
        bad = next(
            (s for s in ("failed", "timed_out", "out_of_memory", "invalid") if counts.get(s)), "failed"
        )
        return f"see what went wrong: tunewright trials {name} --status {bad}{where}"
    idle = _idle(study)
    edge = next((e for e in at_edge(study.space, trial) if e.wider is not None), None)
    if edge is None:
        word = "importance" if counts.get("completed", 0) >= _ENOUGH else "show"
        return f"{idle}tunewright {word} {name}{where}"
    if command_of(study) is None:
        return f"{idle}{edge}"
    change = f"{edge.name}.{'low' if edge.side == 'lower' else 'high'}={number(edge.wider)}"
    return (
        f"{idle}{edge.name} is best near its {edge.side} bound {number(edge.bound)}, so widen it: "
        f"tunewright resume {name} --set {shlex.quote(change)} --trials +{_MORE}{where}"
    )


def _idle(study: Study) -> str:
    """Which parameters need no more attention; empty while too little is known to say so."""
    from tunewright.analysis.importance import importance
    from tunewright.analysis.outcome import idle

    if study.problem.m > 1 or not _SURE <= study.counts.get("completed", 0) <= _MANY:
        return ""
    try:
        found = idle(importance(study))
    except ConfigError:
        return ""
    if not found:
        return ""
    names = ", ".join(f"{i.name} ({i.value:.1%})" for i in found[:3])
    return f"{names} hardly {'matters' if len(found) == 1 else 'matter'}; "


def as_json(study: Study, summary: Summary, code: int) -> dict[str, Any]:
    """The outcome of a run as plain data."""
    from tunewright.analysis.outcome import defaults_of

    trial = best_of(study)
    default = defaults_of(study.session.ledger)
    return {
        "study": study.name,
        "storage": study.session.store.url,
        "method": study.method,
        "why": summary.why,
        "ended": summary.ended,
        "failed": summary.failed,
        "seconds": round(summary.seconds, 3),
        "trials": len(study.trials),
        "counts": study.counts,
        "best": None if trial is None else as_dict(trial),
        "defaults": None if default is None else as_dict(default),
        "use": None if trial is None else usage(study, trial),
        "exit": code,
    }


_WHY = {
    "trials": "all trials are done",
    "timeout": "the time is used up",
    "target": "the target is reached",
    "finished": "the method has nothing more to try",
    "interrupted": "interrupted; everything is saved, and the same command continues",
    "stopped": "stopped by tunewright stop; everything is saved, and the same command continues",
    "regret": "little is left to gain",
    "cost": "the cost is used up",
    "failures": "too many failures",
}


def conclude(study: Study, summary: Summary, where: str) -> None:
    """Prints the outcome of a run."""
    from tunewright.analysis.pace import duration, pairs
    from tunewright.ending import reason

    done = (
        f"{summary.ended} {'trial' if summary.ended == 1 else 'trials'} ended in {duration(summary.seconds)}"
    )
    failed = f", {summary.failed} of them failed" if summary.failed else ""
    click.echo(f"{study.name}: {_WHY[summary.why]}; {done}{failed}")
    if summary.why == "regret":
        click.echo(f"stopped {reason(study.session)}")
    trial = best_of(study)
    if trial is not None:
        shown = {o.name: trial.metrics[o.name] for o in study.problem.objectives if o.name in trial.metrics}
        several = f" (one of {len(study.pareto)} on the front)" if study.problem.m > 1 else ""
        click.echo(f"best    trial {trial.number}: {pairs(shown)}{several}")
        if study.problem.m == 1 and (better := gain(study, trial)):
            click.echo(f"        {better}")
        click.echo(f"use     {usage(study, trial)}")
    left = any(study.counts.get(status) for status in ("waiting", "paused", "running"))
    if summary.why in ("interrupted", "stopped", "timeout") and left and command_of(study) is not None:
        click.echo(f"next    tunewright resume {shlex.quote(study.name)}{where}")
    else:
        click.echo(f"next    {advice(study, trial, where)}")
