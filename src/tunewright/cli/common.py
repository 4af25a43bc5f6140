"""What the commands share: options, opening a study for reading, JSON and tables."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

import click

from tunewright.errors import ConfigError, StudyMissing

if TYPE_CHECKING:
    from tunewright.core.scale import Scale
    from tunewright.core.trial import Trial
    from tunewright.store.base import Store, StudyInfo
    from tunewright.study import Study
    from tunewright.view import View

F = TypeVar("F", bound=Callable[..., Any])
RUN_NOTE = "command"
_LAST = 20
_RULES = ("queue", "retry", "finish", "defaults", "")

storage_option = click.option(
    "--storage",
    "--store",
    "storage",
    metavar="WHERE",
    help="A path or URL of the store; else TUNEWRIGHT_STORE or TUNEWRIGHT_SERVER, else .tunewright/studies.db here or above.",
)
debug_option = click.option(
    "--debug", is_flag=True, expose_value=False, help="Show the traceback of an error."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
study_argument = click.argument("study", required=False)


def reading(function: F) -> F:
    """The options of every command that reads: --storage, --json, --debug."""
    return storage_option(json_option(debug_option(function)))


def existing(storage: str | None) -> str | None:
    """The store to read, after checking that it is there: reading makes no empty store.

    Raises:
        StudyMissing: If there is none.
    """
    from tunewright.store.urls import FILE, FOLDER, named

    spec = storage or named()
    if spec is None:
        here = Path.cwd()
        if any((folder / FOLDER / FILE).is_file() for folder in (here, *here.parents)):
            return None
        raise StudyMissing(
            f"A store must be there to be read; there is no {FOLDER}/{FILE} in {here} or above. "
            f"Run a study first, or pass --storage."
        )
    path = unquote(spec.removeprefix("sqlite:///").partition("?")[0])
    if "://" not in path and not Path(path).exists():
        raise StudyMissing(f"A store must be there to be read; '{path}' does not exist. Correct --storage.")
    return spec


def file_of(where: str | None) -> str:
    """Path of a store's file; of an address elsewhere the address, which names no file."""
    from tunewright.store.urls import default_path

    text = str(default_path()) if where is None else where
    return (
        unquote(text.removeprefix("sqlite:///").partition("?")[0]) if text.startswith("sqlite:///") else text
    )


def open_study(name: str | None, storage: str | None, **options: Any) -> Study:
    """Opens an existing study; the newest one when no name is given.

    Raises:
        StudyMissing: If it is not there, with the nearest name.
    """
    from tunewright.study import Study

    where = existing(storage)
    return Study.open(name or newest(where), storage=where, exist="must", **options)


def looked_at(store: Store, info: StudyInfo) -> View:
    """A study to look at, without the method that decides in it, which takes time to load."""
    from tunewright.opening import stored_problem
    from tunewright.run.session import Session
    from tunewright.store.clock import worker_id
    from tunewright.view import View

    session = Session(
        store, info, stored_problem(info, None), None, method=str(info.spec["method"]), worker=worker_id()
    )
    if session.method == "auto":
        # Who chose is written on every trial that a method has chosen.
        chosen = (t.start.by for t in reversed(session.sync().trials[-_LAST:]))
        session.method = next((by for by in chosen if by not in _RULES), "auto")
    return View(session)


@contextlib.contextmanager
def looking_at(name: str | None, storage: str | None) -> Iterator[View]:
    """A study to look at, the newest one when no name is given; closed at the end.

    Raises:
        StudyMissing: If it is not there, with the nearest name.
    """
    from tunewright.opening import missing, placed
    from tunewright.store.urls import open_store

    where, wanted = placed(existing(storage), name or newest(storage))
    store = open_store(where)
    try:
        info = store.find(wanted)
        if info is None:
            raise missing(wanted, store)
        yield looked_at(store, info)
    finally:
        store.close()


def newest(storage: str | None) -> str:
    """Name of the study that was created last.

    Raises:
        StudyMissing: If there is none.
    """
    from tunewright.store.urls import open_store

    store = open_store(storage)
    try:
        studies = store.studies()
    finally:
        store.close()
    if not studies:
        raise StudyMissing(f"A study must be there to be read; {store.url} is empty. Run one first.")
    return max(studies, key=lambda s: (s.created, s.id)).name


def emit(data: Any) -> None:
    """Prints one JSON document."""
    click.echo(json.dumps(data, default=str, ensure_ascii=False))


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Prints aligned columns; long cells are cut."""
    from tunewright.analysis.pace import number

    text = [[_cell("" if v is None else number(v)) for v in row] for row in rows]
    widths = [max([len(h), *(len(r[i]) for r in text)]) for i, h in enumerate(head)]
    for line in [list(head), *text]:
        click.echo("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)).rstrip())


def _cell(text: str, longest: int = 60) -> str:
    text = " ".join(text.split())
    return text if len(text) <= longest else text[: longest - 3] + "..."


def lines(pairs: Mapping[str, Any]) -> None:
    """Prints ``name  value`` lines, leaving out empty values."""
    from tunewright.analysis.pace import number

    width = max(map(len, pairs), default=0)
    for name, value in pairs.items():
        if value is not None and value != "":
            click.echo(f"{name.ljust(width)}  {number(value)}")


def when(at: float | None) -> str:
    """A time of day with its date, in local time."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)) if at is not None else ""


def as_dict(trial: Trial, scale: Scale | None = None) -> dict[str, Any]:
    """A trial as plain data, without its reports; with a scale, also the size that it trained last."""
    from tunewright import view

    return view.as_dict(trial, scale)


def command_of(study: View) -> dict[str, Any] | None:
    """How the study was last run from the command line, or None."""
    found = [n.data for _, n in study.session.sync().notes if n.topic == RUN_NOTE]
    return found[-1] if found else None


def assignments(words: Sequence[str]) -> dict[str, Any]:
    """``name=value`` words as a mapping; numbers, true, false and null are read as in JSON, nan and inf too.

    Raises:
        ConfigError: If a word has no ``=``.
    """
    out: dict[str, Any] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise ConfigError(f"Values are given as name=value; got {word!r}. Write it like lr=0.01.")
        try:
            out[name] = json.loads(text)
        except (ValueError, RecursionError):
            out[name] = float(text) if text.lower().lstrip("+-") in ("nan", "inf", "infinity") else text
    return out
