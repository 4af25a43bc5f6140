"""``run`` and ``resume``."""

from __future__ import annotations

import contextlib
import inspect
import os
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from tunewright.cli.common import RUN_NOTE, command_of, debug_option, emit, open_study, storage_option
from tunewright.cli.exits import DONE, NONE_SUCCEEDED, TARGET, say
from tunewright.cli.options import limit_options, progress_options, sweep_options
from tunewright.errors import ConfigError, SpaceConflict, StudyExists, TooManyFailures

if TYPE_CHECKING:
    from tunewright.cli.sweep import Sweep
    from tunewright.run.allowance import Limits
    from tunewright.run.driver import Summary
    from tunewright.run.executor import Executor
    from tunewright.run.notifying import Notifier
    from tunewright.study import Study


@click.command()
@sweep_options
@progress_options
@storage_option
@debug_option
def run(
    words: tuple[str, ...],
    as_json: bool,
    progress: str,
    require: bool,
    new: bool,
    space_change: str,
    transfer_from: tuple[str, ...],
    **given: Any,
) -> int:
    """Tune a script, a command or a Python function; the same command continues it.

    \b
    tunewright run --minimize loss --trials 40 -- python train.py --lr '{lr:log 1e-5..1e-1}' --opt '{opt:adam|sgd}'
    tunewright run --minimize loss --trials 40 --command 'python train.py --lr {lr}' --space space.toml
    tunewright run --minimize loss --trials 40 train.py:train
    tunewright run sweep.toml

    Placeholders: {lr:log 1e-5..1e-1}, {n:1..8}, {width:int log 16..512}, {p:0..1 step 0.1}, {opt:adam|sgd},
    {b:order 16|32|64}, {flag:bool}, {o:permutation a|b|c}, {s:subset 1..2 a|b|c}; "= value" at the end is tried
    first. Metrics are read from standard output: JSON lines, name=value or name: value. Scripts find TUNEWRIGHT_TRIAL and TUNEWRIGHT_CHECKPOINT_DIR in their
    environment.
    """
    from tunewright.cli.sweep import sweep_of

    given["failures"] = "1" if given.pop("fail_fast") else given["failures"]
    sweep = sweep_of(words, given)
    _check(sweep.limits, require)
    train, executor = training(sweep)
    if transfer_from:
        transferred(sweep, transfer_from)
    declared: Any = sweep.space if sweep.space is not None else declared_by(sweep, train)
    with opened(sweep, declared, new, space_change) as study:
        remember(study, sweep)
        return _go(study, train, executor, sweep, as_json, progress, require)


def opened(sweep: Sweep, declared: Any, new: bool, space_change: str = "version") -> Study:
    """Opens the study of a sweep, making it when it is not there.

    Args:
        sweep: What is to be tuned.
        declared: Its space, or the function that declares it.
        new: Whether it must not exist.
        space_change: ``version``, ``error`` or ``fork``: what to do when the space is not the stored one.

    Raises:
        StudyExists: If it exists and must not, with how far it is.
        SpaceConflict: If the space changed and that is an error.
    """
    from tunewright.run.session import Policy
    from tunewright.study import Study

    if new and Study.exists(sweep.name, sweep.storage):
        raise StudyExists(_exists(sweep))
    strict = space_change in ("error", "strict", "fork")
    given: dict[str, Any] = {**sweep.study, "steps": _steps(sweep.study.get("steps"))}
    lost = sweep.limits.get("retry", {}).get("lost")
    if lost is not None:
        given["policy"] = Policy(max_attempts=lost + 1)
    given |= {"storage": sweep.storage, "on_change": "error" if strict else "version"}
    given["resumable"] = not sweep.argv or bool(sweep.limits.get("resumable"))
    try:
        return Study.open(sweep.name, declared, **given)
    except SpaceConflict:
        if space_change != "fork":
            raise
    old, number = sweep.name, 2
    while Study.exists(f"{old}-{number}", sweep.storage):
        number += 1
    sweep.name = f"{old}-{number}"
    say(f"the space is not that of '{old}'; this is '{sweep.name}'")
    return Study.open(sweep.name, declared, **given)


def _exists(sweep: Sweep) -> str:
    """What is said of a study that should be new."""
    from tunewright.analysis.pace import pairs
    from tunewright.cli.outcome import best_of

    name = shlex.quote(sweep.name)
    with open_study(sweep.name, sweep.storage) as study:
        best, names = best_of(study), [o.name for o in study.problem.objectives]
        found = f", best {pairs({n: best.metrics[n] for n in names if n in best.metrics})}" if best else ""
        count = len(study.trials)
    return (
        f"A new study needs a new name; '{sweep.name}' exists ({count} {'trial' if count == 1 else 'trials'}{found}). "
        f"Go on with it by leaving out --new (tunewright resume {name}), or pass --name {name}-2."
    )


def transferred(sweep: Sweep, studies: tuple[str, ...]) -> None:
    """Gives a new study the results of earlier ones; one that exists keeps those that it was made with.

    Raises:
        ConfigError: If an earlier study has too few results.
    """
    from tunewright import transfer
    from tunewright.study import Study

    method = sweep.study.pop("method", None)
    if Study.exists(sweep.name, sweep.storage):
        return
    if method is None and sweep.study.get("steps") is not None:
        method = "halting(transfer)" if sweep.argv and not sweep.limits.get("resumable") else "asha(transfer)"
    sweep.study["method"] = method or "transfer"
    sweep.study["options"] = {"sources": transfer.sources(sweep.storage, studies)}


@click.command()
@click.argument("study", required=False)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="NAME.FIELD=VALUE",
    help="Change the space first, such as lr.high=0.3 or opt=adam|sgd|lion; earlier trials are kept.",
)
@limit_options
@progress_options
@storage_option
@debug_option
def resume(
    study: str | None,
    changes: tuple[str, ...],
    as_json: bool,
    progress: str,
    require: bool,
    storage: str | None,
    **given: Any,
) -> int:
    """Continue a study that was started with run, the newest one when none is named.

    The limits of the last run hold unless others are given; --trials +20 adds twenty, --budget +4h four hours.
    """
    from tunewright.cli.steering import lifted
    from tunewright.cli.sweep import Sweep
    from tunewright.cli.wishes import changed, settle

    given["failures"] = "1" if given.pop("fail_fast") else given["failures"]
    with open_study(study, storage) as opened:
        if changes:
            for line in changed(opened, changes):
                say(line)
        note = command_of(opened)
        told = {k: v for k, v in given.items() if v not in (None, (), False)}
        if lifted(opened, note is not None, bool(told)):
            return DONE
        if note is None:
            raise ConfigError(
                f"resume needs a study that was started with run; '{opened.name}' was started from Python. "
                f"Run that program again, it continues."
            )
        sweep = Sweep(opened.name, note.get("argv", []), note.get("function", ""), storage=storage)
        settle(told, sweep.argv)
        sweep.limits = {**note.get("limits", {}), **told}
        return carry_on(opened, sweep, as_json, progress, require)


def carry_on(study: Study, sweep: Sweep, as_json: bool, progress: str = "auto", require: bool = False) -> int:
    """Runs a study that exists; returns the exit code.

    Args:
        study: The study.
        sweep: What to run, and its limits.
        as_json: Print the outcome as JSON.
        progress: How to show progress.
        require: Whether a target that was not reached is a failure.
    """
    _check(sweep.limits, require)
    train, executor = training(sweep)
    return _go(study, train, executor, sweep, as_json, progress, require)


def training(sweep: Sweep) -> tuple[Callable[..., Any], Executor | None]:
    """The training function, and for a command the workers that run it."""
    from tunewright.cli.sweep import load_function

    limits = sweep.limits
    if sweep.function:
        return load_function(sweep.function), None
    from tunewright.core.units import seconds
    from tunewright.run.command import script
    from tunewright.run.placing import place_of
    from tunewright.run.processes import Processes

    bounds = bounds_of(limits)
    metrics = str(limits.get("metrics", "stdout"))
    workers = int(limits.get("workers") or bounds.places or 1)
    if metrics.startswith("jsonl:") and workers > 1 and "{" not in metrics:
        raise ConfigError(
            f"Workers must not share a metrics file; got {metrics!r} for {workers} workers. "
            f"Put {{trial}} or {{checkpoint_dir}} into its name."
        )
    grace = seconds(limits.get("grace")) or 10.0
    limits.setdefault("cwd", str(Path.cwd()))
    train = script(
        sweep.argv,
        metrics=metrics,
        cwd=limits["cwd"],
        grace=grace,
        seeds=int(limits.get("seeds") or 1),
        retry={k: v for k, v in limits.get("retry", {}).items() if k != "lost"},
        alone=workers == 1,
    )
    if limits.get("on"):
        return train, place_of(str(limits["on"])).executor(train, workers, bounds)
    return train, Processes(train, workers, bounds)


def bounds_of(limits: dict[str, Any]) -> Limits:
    """What a trial may use."""
    from tunewright.core.units import seconds, size
    from tunewright.run.allowance import Limits

    return Limits(
        size(limits.get("memory")),
        tuple(_devices(limits.get("devices"))),
        cpu=seconds(limits.get("cpu")),
        per_device=limits.get("per_device"),
    )


def declared_by(sweep: Sweep, train: Callable[..., Any] | None) -> Any:
    """A function that declares its parameters stands for its space; one with none declares them while it runs.

    Raises:
        ConfigError: If a command has no parameters.
    """
    if train is None or sweep.argv:
        raise ConfigError(
            "A command needs parameters; got none. Write '{lr:log 1e-5..1e-1}' in it, or pass --space."
        )
    return train if set(inspect.signature(train).parameters) - {"trial"} else None


def _devices(given: Any) -> list[str]:
    if isinstance(given, str):
        return [d.strip() for d in given.split(",") if d.strip()]
    return [str(d) for d in given or ()]


def _steps(given: Any) -> Any:
    """``30`` or ``3..30`` as numbers; files may give numbers already."""
    if not isinstance(given, str):
        return given
    low, dots, high = given.partition("..")
    try:
        return (int(low), int(high)) if dots else int(low)
    except ValueError:
        raise ConfigError(
            f"steps must be a whole number or FEWEST..FULL; got {given!r}. Try 3..30."
        ) from None


def _check(limits: dict[str, Any], require: bool) -> None:
    """Refuses limits that cannot be used, before a study is made."""
    from tunewright.core.units import seconds, whole
    from tunewright.run.placing import meter_for

    for name in ("timeout", "trial_timeout", "grace"):
        seconds(limits.get(name))
    bounds_of(limits)
    meter_for(limits.get("cost") or "seconds", limits.get("on"))
    if limits.get("stop_when") is not None:
        from tunewright.ending import RegretRule

        RegretRule(limits["stop_when"])
    whole("trials", _total(limits.get("trials"), 0))
    if limits.get("notify"):
        from tunewright.run.notifying import checked

        for place in [limits["notify"]] if isinstance(limits["notify"], str) else limits["notify"]:
            checked(str(place))
    failures_of(limits.get("failures"))
    if require and limits.get("target") is None:
        raise ConfigError("--require needs a target; got none. Add --target.")


def _total(given: Any, have: int) -> int | None:
    """Trials in all from ``40`` or ``+20``, for a study that has some already."""
    if given is None or isinstance(given, int):
        return given
    try:
        number = int(str(given).removeprefix("+"))
    except ValueError:
        raise ConfigError(
            f"trials must be a whole number, or +N for N more; got {given!r}. Correct it."
        ) from None
    return number + have if str(given).startswith("+") else number


def failures_of(given: Any) -> Any:
    """The failure policy from ``auto``, ``none`` or a number.

    Raises:
        ConfigError: If it is none of these.
    """
    if given in (None, "auto"):
        return "auto"
    if given == "none":
        return None
    if str(given).isdigit() and int(given) > 0:
        return int(given)
    raise ConfigError(f"failures must be auto, none or a whole number from 1; got {given!r}. Correct it.")


def remember(study: Study, sweep: Sweep) -> None:
    """Keeps in the log how the study is run, so that ``resume`` and ``best`` know."""
    function = sweep.function
    if function.partition(":")[0].endswith(".py"):
        path, _, name = function.rpartition(":")
        function = f"{Path(path).absolute()}:{name}"
    # Where to send messages may hold a secret, and the log is read by all.
    limits = {k: v for k, v in sweep.limits.items() if k != "notify"}
    note = {"argv": sweep.argv, "function": function, "limits": limits}
    if command_of(study) != note:
        study.session.note(RUN_NOTE, note)


def _go(
    study: Study,
    train: Callable[..., Any],
    executor: Executor | None,
    sweep: Sweep,
    as_json: bool,
    progress: str,
    require: bool,
) -> int:
    """Runs, prints what came out, and returns the exit code."""
    from tunewright.cli import outcome

    limits = sweep.limits
    target = limits.get("target")
    with _told(study, limits.get("notify")) as notifier:
        summary = _run(
            study, train, executor, limits, "none" if as_json and progress == "auto" else progress, notifier
        )
    code = DONE
    if summary.why in ("interrupted", "stopped"):
        code = 128 + (summary.signal or 2)
    elif not any(study.counts.get(status) for status in ("completed", "paused", "stopped")):
        code = NONE_SUCCEEDED
    elif require and target is not None and not _reached(study, target):
        code = TARGET
    if as_json:
        emit(outcome.as_json(study, summary, code))
    elif progress != "jsonl":
        outcome.conclude(study, summary, f" --storage {shlex.quote(sweep.storage)}" if sweep.storage else "")
    return code


@contextlib.contextmanager
def _told(study: Study, places: Any) -> Iterator[Notifier | None]:
    """Tells who asked for it how a run goes, and how it ends."""
    from tunewright.cli.outcome import best_of

    listed = [places] if isinstance(places, str) else list(places or ())
    listed = listed or [p for p in (os.environ.get("TUNEWRIGHT_NOTIFY"),) if p]
    if not listed:
        yield None
        return
    from tunewright.run.notifying import Notifier

    notifier = Notifier(listed, study.name)
    try:
        yield notifier
        best = best_of(study)
        notifier.finished(
            f"over with {len(study.trials)} trials",
            None if best is None else best.number,
            None if best is None else best.metrics,
        )
    except TooManyFailures as error:
        notifier.failing(str(error))
        raise
    finally:
        notifier.close()


def _run(
    study: Study,
    train: Callable[..., Any],
    executor: Executor | None,
    limits: dict[str, Any],
    progress: str,
    notifier: Notifier | None,
) -> Summary:
    """Runs the study within its limits."""
    return study.run(
        train,
        trials=_total(limits.get("trials"), len(study.trials)),
        timeout=limits.get("timeout"),
        workers=int(limits["workers"]) if limits.get("workers") else None,
        target=limits.get("target"),
        stop_when=limits.get("stop_when"),
        trial_timeout=limits.get("trial_timeout"),
        cpu=limits.get("cpu") if executor is None else None,
        memory=limits.get("memory") if executor is None else None,
        devices=_devices(limits.get("devices")) if executor is None else (),
        per_device=limits.get("per_device") if executor is None else None,
        fresh=limits.get("fresh"),
        failures=failures_of(limits.get("failures")),
        grace=limits.get("grace") or 10.0,
        progress=cast(Any, progress),
        watch=notifier,
        on=limits.get("on") if executor is None else None,
        executor=executor,
        cost=limits.get("cost") or "seconds",
        lift=limits.get("lift", True),
    )


def _reached(study: Study, target: float) -> bool:
    from tunewright.cli.outcome import best_of

    objective, best = study.problem.objectives[0], best_of(study)
    return best is not None and objective.sign * best.metrics[objective.name] <= objective.sign * target
