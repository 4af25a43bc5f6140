"""What a study came to: the best trial, how it compares with the defaults, how to use it, what to do next."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import click

from tunewright.cli.common import as_dict, command_of
from tunewright.errors import ConfigError

if TYPE_CHECKING:
    from tunewright.core.trial import Trial
    from tunewright.run.driver import Summary
    from tunewright.study import Study

_NEAR = 0.02
_ENOUGH = 10


def best_of(study: Study) -> Trial | None:
    """The best trial; the first of the front for several objectives; None when no trial has a result."""
    if study.problem.m > 1:
        return next(iter(study.pareto), None)
    try:
        return study.best
    except ConfigError:
        return None


def to_use(study: Study) -> Trial | None:
    """The trial to use: the one that was confirmed since the last trial ended, else the best."""
    from tunewright.confirming import confirmed

    found = confirmed(study)
    if found is not None and found.size == len(study.trials):
        return study.trials[found.winner]
    return best_of(study)


def truth(study: Study) -> list[str]:
    """What is known about the best beyond its own result: its mean over seeds, and what confirm found."""
    from tunewright.analysis.confirmation import worth
    from tunewright.analysis.progress import number
    from tunewright.confirming import confirmed
    from tunewright.core.replicates import pools_of

    found = confirmed(study)
    if found is not None:
        newer = len(study.trials) - found.size
        late = [f"{newer} trials were begun since; confirm again to count them in."] if newer else []
        return [*found.sentences(), *late]
    best = best_of(study)
    if best is None or study.problem.m > 1:
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


def usage(study: Study, trial: Trial) -> str:
    """How to train with the parameters of a trial: a command line, or a call."""
    from tunewright.run.template import fill

    note = command_of(study) or {}
    if note.get("argv"):
        values = {"trial": trial.number, "seed": study.problem.seed, "checkpoint_dir": ".", **trial.params}
        return shlex.join(fill(note["argv"], values))
    name = str(note.get("function", "")).rpartition(":")[2] or "train"
    if all(p.isidentifier() for p in trial.params):
        return f"{name}({', '.join(f'{k}={v!r}' for k, v in trial.params.items())})"
    return f"{name}(**{trial.params!r})"


def defaults_of(study: Study) -> Trial | None:
    """The trial that tried the defaults, when it completed."""
    ledger = study.session.ledger
    position = ledger.keys.get("defaults")
    trials = [t for t in ledger.trials if position is not None and t.start.queue == position]
    return trials[0] if trials and trials[0].status == "completed" else None


def gain(study: Study, trial: Trial) -> str:
    """How a trial compares with the defaults, or with the first completed trial."""
    from tunewright.analysis.progress import number

    objective = study.problem.objectives[0]
    other, name = defaults_of(study), "your defaults"
    if other is None:
        done = [t for t in study.trials if t.status == "completed" and objective.name in t.metrics]
        other, name = (done[0] if done else None), f"trial {done[0].number}" if done else ""
    if other is None or other is trial or objective.name not in other.metrics:
        return ""
    before, after = other.metrics[objective.name], trial.metrics[objective.name]
    change = objective.sign * (before - after)
    share = f" ({change / abs(before):.1%})" if before else ""
    return f"{number(abs(change))}{share} {'better' if change >= 0 else 'worse'} than {name}, which got {number(before)}"


def advice(study: Study, trial: Trial | None, where: str) -> str:
    """One next step."""
    counts = study.counts
    if trial is None:
        bad = next(
            (s for s in ("failed", "timed_out", "out_of_memory", "invalid") if counts.get(s)), "failed"
        )
        return f"see what went wrong: tunewright trials {shlex.quote(study.name)} --status {bad}{where}"
    edge = _edge(study, trial)
    if edge:
        return edge
    word = "importance" if counts.get("completed", 0) >= _ENOUGH else "show"
    return f"tunewright {word} {shlex.quote(study.name)}{where}"


def _edge(study: Study, trial: Trial) -> str:
    """Says which parameter is best near the end of its range, where a wider range may hold something better."""
    from tunewright.analysis.progress import number
    from tunewright.core.domains import Float, Int

    for column in study.space.columns:
        domain, value = column.domain, trial.params.get(column.name)
        if not isinstance(domain, Float | Int) or value is None or domain.count in range(1, 6):
            continue
        code = domain.coder()[0](value) if domain.contains(value) else 0.5
        for side, bound, near in (("lower", domain.low, code), ("upper", domain.high, 1 - code)):
            if near < _NEAR:
                return (
                    f"{column.name}={number(value)} is best near its {side} bound {number(bound)}: "
                    f"widen it if that makes sense, and run the same command again"
                )
    return ""


def as_json(study: Study, summary: Summary, code: int) -> dict[str, Any]:
    """The outcome of a run as plain data."""
    trial = best_of(study)
    default = defaults_of(study)
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
    "regret": "little is left to gain",
    "cost": "the cost is used up",
    "failures": "too many failures",
}


def conclude(study: Study, summary: Summary, where: str) -> None:
    """Prints the outcome of a run."""
    from tunewright.analysis.progress import duration, pairs
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
    if summary.why in ("interrupted", "timeout") and left and command_of(study) is not None:
        click.echo(f"next    tunewright resume {shlex.quote(study.name)}{where}")
    else:
        click.echo(f"next    {advice(study, trial, where)}")
