"""The options that say what is to be tuned and within what limits; ``run``, ``create`` and ``resume`` share them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

_PROGRESS = click.Choice(["auto", "live", "plain", "jsonl", "none"])
_LIMITS = (
    click.option("--trials", metavar="N", help="Trials the study is to have in all; +N for N more."),
    click.option("--timeout", metavar="TIME", help="Time of this run, such as 90s, 10min or 2h."),
    click.option("--budget", metavar="TIME|'N trials'", help="The same as --timeout, or as --trials."),
    click.option("--workers", type=click.IntRange(1), help="Trials at a time; 1 when not given."),
    click.option("--target", type=float, help="Stop when the objective is this good."),
    click.option(
        "--stop-when", metavar="RULE", help="Stop when little is left to gain: regret<0.01 or regret<noise."
    ),
    click.option("--trial-timeout", metavar="TIME", help="Time of one trial."),
    click.option("--cpu", metavar="TIME", help="Processor time of one trial, such as 10min."),
    click.option("--memory", metavar="SIZE", help="Memory of one trial, such as 2GiB."),
    click.option("--devices", metavar="LIST", help="GPUs to share out over the workers, such as 0,1."),
    click.option(
        "--gpus", metavar="all|N|LIST", help="One trial on each GPU: all, how many, or such as 0,2."
    ),
    click.option(
        "--gpus-per-trial", type=float, metavar="N", help="GPUs that a trial takes; 0.5 shares one."
    ),
    click.option(
        "--per-device", type=float, metavar="N", help="Trials that share a GPU; 0.5 for trials that take two."
    ),
    click.option(
        "--on", metavar="PLACE", help="Run on a Ray cluster: ray, ray://head:10001, or ray?gpus=0.5&cpus=4."
    ),
    click.option(
        "--cost",
        type=click.Choice(["seconds", "energy"]),
        help="What trials cost: their time, or their joules.",
    ),
    click.option("--failures", metavar="N", help="Give up after N failures; auto or none."),
    click.option("--fail-fast", is_flag=True, help="Give up at the first failure."),
    click.option("--retry", metavar="LIST", help="Attempts more, such as lost=2,oom=1,failed=0."),
    click.option(
        "--grace", metavar="TIME", help="Time that trials get to save when interrupted; 10s when not given."
    ),
)
_SHOWN = (
    click.option("--require", is_flag=True, help="Exit with 7 when the target was not reached."),
    click.option(
        "--notify",
        multiple=True,
        metavar="WHERE",
        help="Say what happens to cmd:COMMAND, webhook:URL or desktop; may be repeated.",
    ),
    click.option("--progress", type=_PROGRESS, default="auto", help="How to show progress."),
    click.option("--json", "as_json", is_flag=True, help="Print the outcome as one JSON document."),
)
_SWEEP = (
    click.argument("words", nargs=-1, metavar="[TARGET | -- COMMAND...]"),
    click.option("--name", help="Name of the study; the script's name when not given."),
    click.option(
        "--command", help="The command as one text, with {name} placeholders; no shell is involved."
    ),
    click.option("--space", metavar="SPACE", help="File, JSON, or 'lr=log 1e-5..1e-1; opt=adam|sgd'."),
    click.option(
        "--minimize", multiple=True, metavar="METRIC", help="Metric to make small; may be repeated."
    ),
    click.option(
        "--maximize", multiple=True, metavar="METRIC", help="Metric to make large; may be repeated."
    ),
    click.option(
        "--steps", metavar="N", help="Steps of a full training, or FEWEST..FULL, to stop weak trials early."
    ),
    click.option("--method", metavar="METHOD", help="See tunewright methods; auto when not given."),
    click.option(
        "--stop",
        "--early-stop",
        "early_stop",
        metavar="HOW",
        help="End weak trials early: asha, median, ..., auto. Steps are read off --epochs and the like.",
    ),
    click.option(
        "--seeds",
        type=click.IntRange(1),
        metavar="N",
        help="Train every configuration N times; the mean counts.",
    ),
    click.option(
        "--transfer-from",
        multiple=True,
        metavar="STUDY",
        help="Earlier study to learn from; may be repeated.",
    ),
    click.option("--seed", type=int, help="Root of all randomness; 0 when not given."),
    click.option("--metrics", metavar="FROM", help="stdout, jsonl:FILE, tb:FOLDER or regex:PATTERN."),
    click.option(
        "--resumable",
        is_flag=True,
        help="The script continues from what it saved in TUNEWRIGHT_CHECKPOINT_DIR.",
    ),
    click.option("--new", is_flag=True, help="Fail when the study exists."),
    click.option(
        "--space-change",
        type=click.Choice(["version", "new-version", "error", "strict", "fork"]),
        default="version",
        help="When the space differs from the stored one: make a new version, fail with 6, or begin another study.",
    ),
)


def _with(options: tuple[Callable[..., Any], ...], function: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(options):
        function = option(function)
    return function


def limit_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The limits of a run."""
    return _with(_LIMITS, function)


def progress_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """How a run is shown and what it answers."""
    return _with(_SHOWN, function)


def sweep_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """What is to be tuned, and the limits."""
    return _with(_SWEEP, limit_options(function))
