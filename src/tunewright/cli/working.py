"""``worker``: a process that gets its trials from a server, or from a store that it opens itself."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunewright.cli.common import RUN_NOTE, command_of, debug_option, emit, open_study
from tunewright.cli.exits import DONE, say
from tunewright.errors import ConfigError, StudyMissing

if TYPE_CHECKING:
    from tunewright.cli.sweep import Sweep
    from tunewright.run.agent import Shift
    from tunewright.run.executor import Executor
    from tunewright.store.base import StudyInfo
    from tunewright.store.http import HttpStore

_WORDS = "tunewright.command"


class _Split(click.Command):
    """Keeps what stands behind ``--`` apart, so that it cannot be taken for the name of a study."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Cuts the command line at ``--``."""
        place = args.index("--") if "--" in args else len(args)
        ctx.meta[_WORDS] = args[place + 1 :]
        return super().parse_args(ctx, args[:place])


@click.command(cls=_Split)
@click.argument("where")
@click.argument("words", nargs=-1, metavar="[STUDY] [MODULE:FUNCTION | -- COMMAND...]")
@click.option("--workers", type=click.IntRange(1), default=1, help="Trials at a time; 1 when not given.")
@click.option("--trials", metavar="N", type=click.IntRange(1), help="Trials the study is to have in all.")
@click.option("--once", is_flag=True, help="End after one trial.")
@click.option("--idle-exit", metavar="TIME", help="End after this time without work, such as 10min.")
@click.option("--trial-timeout", metavar="TIME", help="Time of one trial.")
@click.option("--cpu", metavar="TIME", help="Processor time of one trial, such as 10min.")
@click.option("--memory", metavar="SIZE", help="Memory of one trial, such as 2GiB.")
@click.option("--devices", metavar="LIST", help="GPUs to share out over the workers, such as 0,1.")
@click.option("--gpus", metavar="all|N|LIST", help="One trial on each GPU: all, how many, or such as 0,2.")
@click.option(
    "--until", metavar="TIME", help="Leave after this time, such as 3h50m; trials save and can be continued."
)
@click.option("--fresh", is_flag=True, help="A new process for every trial.")
@click.option("--failures", metavar="N", help="Give up after N failures; auto or none.")
@click.option(
    "--grace", metavar="TIME", help="Time that trials get to save when interrupted; 10s when not given."
)
@click.option("--lease", metavar="TIME", default="30s", help="Silence after which others get the trial.")
@click.option(
    "--patience", metavar="TIME", default="10min", help="How long to wait for a server that is away."
)
@click.option(
    "--metrics", metavar="FROM", help="Of a command: stdout, jsonl:FILE, tb:FOLDER or regex:PATTERN."
)
@click.option("--command-from-study", is_flag=True, help="Run the command that the study was started with.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as one JSON document.")
@debug_option
@click.pass_context
def worker(ctx: click.Context, /, where: str, words: tuple[str, ...], as_json: bool, **given: Any) -> int:
    """Train trials of a study that lives elsewhere.

    \b
    tunewright worker mystudy --command-from-study --until 3h50m      with TUNEWRIGHT_SERVER=http://host:8000
    tunewright worker http://host:8000 mystudy -- python train.py --lr '{lr}'
    tunewright worker http://host:8000 mystudy train.py:train --workers 4
    tunewright worker postgresql://host/db mystudy train.py:train

    WHERE is the address of `tunewright serve`, or a store; where TUNEWRIGHT_SERVER or TUNEWRIGHT_STORE names it, it is left
    out. What a server says is run only with --command-from-study. The token is taken from TUNEWRIGHT_TOKEN or from
    ~/.config/tunewright/token. Results are kept in .tunewright/spool while the server is away.
    """
    command = ctx.meta.get(_WORDS, [])
    where, words = _placed(where, words)
    elsewhere = where.startswith(("http://", "https://"))
    if not command and not (words and ":" in words[-1]) and not elsewhere:
        # A store of one's own is as trusted as one's own scripts; what a server says is only run when asked for.
        given["command_from_study"] = True
    study, words_ = _study_and_words(words, command, from_study=given["command_from_study"])
    if not where.startswith(("http://", "https://")):
        return _drive(where, study, words_, as_json, given)
    return _serve(where, study, words_, as_json, given)


def _placed(where: str, words: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """The store and the other words; the environment names the store where the command line does not."""
    from tunewright.store.urls import named

    store = named()
    if store is None or "://" in where or "/" in where or where == "memory" or Path(where).exists():
        return where, words
    return store, (where, *words)


def _study_and_words(
    words: Sequence[str], command: Sequence[str], *, from_study: bool
) -> tuple[str | None, list[str]]:
    """The name of the study, if there is one, and what to run.

    Raises:
        ConfigError: If it is not clear what to run.
    """
    given = list(words)
    runs = list(command)
    if not runs and given and ":" in given[-1] and len(given) <= 2:
        runs = [given.pop()]
    if len(given) > 1:
        raise ConfigError(
            f"A worker takes one study; got {len(given)} names. Put the command behind --, or name train.py:function."
        )
    if bool(runs) == from_study:
        raise ConfigError(
            "A worker needs one thing to run: -- command with arguments, train.py:function, or --command-from-study; "
            f"got {'two' if runs else 'none'} of them."
        )
    return (given[0] if given else None), runs


def _sweep(words: Sequence[str], note: dict[str, Any] | None, given: dict[str, Any]) -> Sweep:
    """What to run, and how; of the study's own limits only those that say how to read its output."""
    from tunewright.cli.sweep import Sweep
    from tunewright.cli.wishes import settle
    from tunewright.run.template import parse_command

    told = {k: v for k, v in given.items() if v not in (None, False)}
    settle(told, words)
    names = (
        "workers",
        "trial_timeout",
        "cpu",
        "memory",
        "devices",
        "per_device",
        "fresh",
        "failures",
        "grace",
        "metrics",
        "trials",
    )
    limits = {k: told[k] for k in names if k in told}
    if note is not None:
        kept = {
            k: v for k, v in note.get("limits", {}).items() if k in ("metrics", "resumable", "seeds", "retry")
        }
        return Sweep("", note.get("argv", []), note.get("function", ""), limits={**kept, **limits})
    one = words[0] if len(words) == 1 else ""
    if ":" in one and " " not in one and "{" not in one:
        return Sweep("", [], one, limits=limits)
    return Sweep("", parse_command(list(words))[0], "", limits=limits)


def _drive(where: str, study: str | None, words: Sequence[str], as_json: bool, given: dict[str, Any]) -> int:
    """Works on a store that this process opens itself, as ``tunewright resume`` does."""
    from tunewright.cli.running import carry_on

    for name in ("once", "idle_exit"):
        if given[name]:
            raise ConfigError(
                f"--{name.replace('_', '-')} needs a server; got {where.partition('@')[2] or where!r}. Leave it out."
            )
    with open_study(study, where) as opened:
        note = _noted(command_of(opened)) if given["command_from_study"] else None
        sweep = _sweep(words, note, given)
        sweep.name, sweep.storage = opened.name, where
        if given["until"]:
            sweep.limits["timeout"] = given["until"]
        # Workers come and go by themselves; that one begins does not mean that somebody wants the study to go on.
        sweep.limits["lift"] = False
        return carry_on(opened, sweep, as_json)


def _serve(where: str, study: str | None, words: Sequence[str], as_json: bool, given: dict[str, Any]) -> int:
    """Works for a server."""
    from tunewright.core.units import seconds
    from tunewright.run.agent import Agent, Terms
    from tunewright.store.http import HttpStore
    from tunewright.store.urls import FOLDER

    _speak()
    patience = seconds(given["patience"])
    store = HttpStore(where, patience=600.0 if patience is None else patience)
    info = _found(store, study)
    note = _noted(_last_command(store, info.id)) if given["command_from_study"] else None
    sweep = _sweep(words, note, given)
    terms = Terms(
        trials=given["trials"],
        once=given["once"],
        idle_exit=seconds(given["idle_exit"]),
        trial_timeout=seconds(given["trial_timeout"]),
        grace=seconds(given["grace"]) or 10.0,
        lease=seconds(given["lease"]) or 30.0,
        failures=_failures(given["failures"]),
        patience=600.0 if patience is None else patience,
    )
    home = Path.cwd() / FOLDER
    agent = Agent(store, info, _executor(sweep), terms, home)
    with Until(seconds(given["until"])) as alarm:
        shift = agent.run()
    if alarm.over and shift.why == "interrupted":
        _conclude(shift, info, as_json)
        return DONE
    return _conclude(shift, info, as_json)


class Until:
    """Asks this process to leave, as SIGTERM does, once its time is up."""

    def __init__(self, lasts: float | None) -> None:
        self._lasts = lasts
        self._timer: threading.Timer | None = None
        self.over = False

    def __enter__(self) -> Until:
        if self._lasts is not None:
            self._timer = threading.Timer(self._lasts, self._ring)
            self._timer.daemon = True
            self._timer.start()
        return self

    def __exit__(self, *left: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _ring(self) -> None:
        self.over = True
        os.kill(os.getpid(), signal.SIGTERM)


def _speak() -> None:
    """A worker runs for days with nobody watching, so what it does is written down with the time."""
    import logging

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
    log = logging.getLogger("tunewright")
    log.addHandler(handler)
    log.setLevel(logging.INFO)


def _found(store: HttpStore, name: str | None) -> StudyInfo:
    from tunewright.opening import missing

    if name is not None:
        info = store.find(name)
        if info is None:
            raise missing(name, store)
        return info
    studies = store.studies()
    if not studies:
        raise StudyMissing(f"A worker needs a study; {store.url} has none. Make one first.")
    newest = max(studies, key=lambda s: (s.created, s.id))
    say(f"working on '{newest.name}', the newest study")
    return newest


def _last_command(store: HttpStore, study: int) -> dict[str, Any] | None:
    """How the study was last run from the command line; reads the log in pieces and keeps nothing of it."""
    from tunewright.core.events import Noted

    found, after = None, 0
    while records := store.read(study, after, 5000):
        after = records[-1].seq
        for record in records:
            if isinstance(record.event, Noted) and record.event.topic == RUN_NOTE:
                found = record.event.data
    return found


def _noted(note: dict[str, Any] | None) -> dict[str, Any]:
    if not note:
        raise ConfigError(
            "--command-from-study needs a study that 'tunewright run' started; this one was made from Python. "
            "Say what to run."
        )
    say(f"running what the study says: {' '.join(note.get('argv', [])) or note.get('function', '')}")
    return note


def _executor(sweep: Sweep) -> Executor:
    """Worker processes, for a command or a function; training code never runs in the process that has the token."""
    from tunewright.cli.running import bounds_of, training
    from tunewright.run.processes import Processes

    train, executor = training(sweep)
    if executor is not None:
        return executor
    return Processes(train, int(sweep.limits.get("workers") or 1), bounds_of(sweep.limits))


def _failures(given: str | None) -> Any:
    from tunewright.cli.running import failures_of

    return failures_of(given)


def _conclude(shift: Shift, info: StudyInfo, as_json: bool) -> int:
    if as_json:
        emit(
            {
                "study": info.name,
                "why": shift.why,
                "begun": shift.begun,
                "ended": shift.ended,
                "undelivered": shift.undelivered,
            }
        )
    else:
        click.echo(f"{info.name}: {shift.begun} begun, {shift.ended} ended here ({shift.why})")
    if shift.undelivered:
        say(
            f"what {shift.undelivered} trials did could not be delivered; it is kept in {shift.spool}, "
            "and the next worker in this folder delivers it"
        )
    return 128 + (shift.signal or 2) if shift.why == "interrupted" else DONE
