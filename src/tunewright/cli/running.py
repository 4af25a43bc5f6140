"""``run`` and ``resume``."""

from __future__ import annotations

import inspect
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import click

from tunewright.cli.common import RUN_NOTE, command_of, debug_option, emit, open_study, storage_option
from tunewright.cli.exits import DONE, NONE_SUCCEEDED, TARGET
from tunewright.errors import ConfigError

if TYPE_CHECKING:
    from tunewright.cli.sweep import Sweep
    from tunewright.run.executor import Executor
    from tunewright.study import Study

_PROGRESS = click.Choice(["auto", "live", "plain", "jsonl", "none"])
_LIMITS = (
    click.option("--trials", metavar="N", help="Trials the study is to have in all; +N for N more."),
    click.option("--timeout", metavar="TIME", help="Time of this run, such as 90s, 10min or 2h."),
    click.option("--workers", type=click.IntRange(1), help="Trials at a time; 1 when not given."),
    click.option("--target", type=float, help="Stop when the objective is this good."),
    click.option(
        "--stop-when", metavar="RULE", help="Stop when little is left to gain: regret<0.01 or regret<noise."
    ),
    click.option("--require", is_flag=True, help="Exit with 7 when the target was not reached."),
    click.option("--trial-timeout", metavar="TIME", help="Time of one trial."),
    click.option("--memory", metavar="SIZE", help="Memory of one trial, such as 2GiB."),
    click.option("--devices", metavar="LIST", help="GPUs to share out over the workers, such as 0,1."),
    click.option("--failures", metavar="N", help="Give up after N failures; auto or none."),
    click.option(
        "--grace", metavar="TIME", help="Time that trials get to save when interrupted; 10s when not given."
    ),
    click.option("--progress", type=_PROGRESS, default="auto", help="How to show progress."),
    click.option("--json", "as_json", is_flag=True, help="Print the outcome as one JSON document."),
)


def _limits(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_LIMITS):
        function = option(function)
    return function


@click.command()
@click.argument("words", nargs=-1, metavar="[TARGET | -- COMMAND...]")
@click.option("--name", help="Name of the study; the script's name when not given.")
@click.option("--command", help="The command as one text, with {name} placeholders; no shell is involved.")
@click.option("--space", metavar="SPACE", help="File, JSON, or 'lr=log 1e-5..1e-1; opt=adam|sgd'.")
@click.option("--minimize", multiple=True, metavar="METRIC", help="Metric to make small; may be repeated.")
@click.option("--maximize", multiple=True, metavar="METRIC", help="Metric to make large; may be repeated.")
@click.option(
    "--steps", metavar="N", help="Steps of a full training, or FEWEST..FULL, to stop weak trials early."
)
@click.option("--method", metavar="METHOD", help="See tunewright methods; auto when not given.")
@click.option(
    "--transfer-from", multiple=True, metavar="STUDY", help="Earlier study to learn from; may be repeated."
)
@click.option("--seed", type=int, help="Root of all randomness; 0 when not given.")
@click.option("--metrics", metavar="FROM", help="stdout, jsonl:FILE or regex:PATTERN.")
@click.option(
    "--resumable", is_flag=True, help="The script continues from what it saved in TUNEWRIGHT_CHECKPOINT_DIR."
)
@click.option("--new", is_flag=True, help="Fail when the study exists.")
@click.option(
    "--space-change",
    type=click.Choice(["version", "error"]),
    default="version",
    help="When the space differs from the stored one: make a new version, or fail with 6.",
)
@_limits
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
    from tunewright.study import Study

    sweep = sweep_of(words, given)
    _check(sweep.limits, require)
    train, executor = training(sweep)
    if transfer_from:
        _transfer(sweep, transfer_from)
    declared: Any = sweep.space if sweep.space is not None else _declaring(sweep, train)
    study = Study.open(
        sweep.name,
        declared,
        **{**sweep.study, "steps": _steps(sweep.study.get("steps"))},
        storage=sweep.storage,
        exist="error" if new else "resume",
        on_change=cast(Literal["version", "error"], space_change),
        resumable=not sweep.argv or bool(sweep.limits.get("resumable")),
    )
    with study:
        _remember(study, sweep)
        return _go(study, train, executor, sweep, as_json, progress, require)


def _transfer(sweep: Sweep, studies: tuple[str, ...]) -> None:
    """Gives a new study the results of earlier ones; one that exists keeps those that it was made with."""
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
@_limits
@storage_option
@debug_option
def resume(
    study: str | None, as_json: bool, progress: str, require: bool, storage: str | None, **given: Any
) -> int:
    """Continue a study that was started with run, the newest one when none is named.

    The limits of the last run hold unless others are given; --trials +20 adds twenty.
    """
    from tunewright.cli.sweep import Sweep

    with open_study(study, storage) as opened:
        note = command_of(opened)
        if note is None:
            raise ConfigError(
                f"resume needs a study that was started with run; '{opened.name}' was started from Python. "
                f"Run that program again, it continues."
            )
        told = {k: v for k, v in given.items() if v is not None}
        sweep = Sweep(opened.name, note.get("argv", []), note.get("function", ""), storage=storage)
        sweep.limits = {**note.get("limits", {}), **told}
        _check(sweep.limits, require)
        train, executor = training(sweep)
        return _go(opened, train, executor, sweep, as_json, progress, require)


def training(sweep: Sweep) -> tuple[Callable[..., Any], Executor | None]:
    """The training function, and for a command the workers that run it."""
    from tunewright.cli.sweep import load_function

    limits = sweep.limits
    if sweep.function:
        return load_function(sweep.function), None
    from tunewright.core.units import seconds, size
    from tunewright.run.command import script
    from tunewright.run.processes import Limits, Processes

    metrics, workers = str(limits.get("metrics", "stdout")), int(limits.get("workers") or 1)
    if metrics.startswith("jsonl:") and workers > 1 and "{" not in metrics:
        raise ConfigError(
            f"Workers must not share a metrics file; got {metrics!r} for {workers} workers. "
            f"Put {{trial}} or {{checkpoint_dir}} into its name."
        )
    grace = seconds(limits.get("grace")) or 10.0
    limits.setdefault("cwd", str(Path.cwd()))
    train = script(sweep.argv, metrics=metrics, cwd=limits["cwd"], grace=grace)
    bounds = Limits(size(limits.get("memory")), tuple(_devices(limits.get("devices"))), fresh=False)
    return train, Processes(train, workers, bounds)


def _declaring(sweep: Sweep, train: Callable[..., Any]) -> Any:
    """A function that declares its parameters stands for its space; one with none declares them while it runs."""
    if sweep.argv:
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
    from tunewright.core.units import seconds, size, whole

    for name in ("timeout", "trial_timeout", "grace"):
        seconds(limits.get(name))
    size(limits.get("memory"))
    if limits.get("stop_when") is not None:
        from tunewright.ending import RegretRule

        RegretRule(limits["stop_when"])
    whole("trials", _total(limits.get("trials"), 0))
    _failures(limits.get("failures"))
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


def _failures(given: Any) -> Any:
    if given in (None, "auto"):
        return "auto"
    if given == "none":
        return None
    if str(given).isdigit() and int(given) > 0:
        return int(given)
    raise ConfigError(f"failures must be auto, none or a whole number from 1; got {given!r}. Correct it.")


def _remember(study: Study, sweep: Sweep) -> None:
    """Keeps in the log how the study is run, so that ``resume`` and ``best`` know."""
    function = sweep.function
    if function.partition(":")[0].endswith(".py"):
        path, _, name = function.rpartition(":")
        function = f"{Path(path).absolute()}:{name}"
    note = {"argv": sweep.argv, "function": function, "limits": sweep.limits}
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
    summary = study.run(
        train,
        trials=_total(limits.get("trials"), len(study.trials)),
        timeout=limits.get("timeout"),
        workers=int(limits.get("workers") or 1),
        target=target,
        stop_when=limits.get("stop_when"),
        trial_timeout=limits.get("trial_timeout"),
        memory=limits.get("memory") if executor is None else None,
        devices=_devices(limits.get("devices")) if executor is None else (),
        fresh=limits.get("fresh"),
        failures=_failures(limits.get("failures")),
        grace=limits.get("grace") or 10.0,
        progress=cast(Any, "none" if as_json and progress == "auto" else progress),
        executor=executor,
    )
    code = DONE
    if summary.why == "interrupted":
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


def _reached(study: Study, target: float) -> bool:
    from tunewright.cli.outcome import best_of

    objective, best = study.problem.objectives[0], best_of(study)
    return best is not None and objective.sign * best.metrics[objective.name] <= objective.sign * target
