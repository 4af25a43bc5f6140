"""Figures for pages: made in threads of their own, once per state of a study, and kept for whoever asks next."""

from __future__ import annotations

import asyncio
import inspect
import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from tunewright.core.history import History
from tunewright.core.problem import Problem
from tunewright.core.trial import Trial
from tunewright.errors import ConfigError, TunewrightError
from tunewright.opening import stored_problem
from tunewright.store.base import Store, StudyInfo
from tunewright.web.lanes import DEADLINE
from tunewright.web.packing import Packed, encode
from tunewright.web.refusals import Refused
from tunewright.web.shapes import ChartLine

if TYPE_CHECKING:
    from tunewright.analysis.drawing import Figure
    from tunewright.run.session import Session
PAGES = {
    "history": "overview", "importance": "parameters", "slice": "parameters", "contour": "parameters",
    "ablation": "parameters", "interactions": "parameters", "sensitivity": "parameters", "footprint": "parameters",
    "regret": "overview", "parallel": "explore", "curves": "curves", "pareto": "pareto", "hypervolume": "pareto", "attainment": "pareto",
    "timeline": "timeline", "cost": "timeline", "lineage": "lineage", "inside": "inside", "chosen": "inside",
    "surrogate": "surrogate", "stopping": "stopping", "edf": "compare", "transfer": "transfer",
}  # fmt: skip
"""The page that each kind of chart is on; others are on the overview."""
_TITLES = {
    "transfer": "From small to large",
    "edf": "Distribution of results",
    "slice": "Each parameter",
    "parallel": "Whole configurations",
}
_SOME = 100
_MOST = 64 << 20
_BLOCK = 20_000
Key = tuple[int, float, int, str, tuple[tuple[str, str], ...]]


def _whole(text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise ValueError(text)
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


_READERS: dict[str, Callable[[str], Any]] = {
    "str": str, "str | None": str, "int": _whole, "int | None": _whole, "float": _finite, "float | None": _finite,
}  # fmt: skip


class Seen:
    """A study as charts read it, at one state of its log.

    Args:
        info: What the store says about it.
        session: A handle that only reads.
        trials: Its trials.
        history: Makes the arrays of its trials.
    """

    def __init__(
        self, info: StudyInfo, session: Session, trials: Sequence[Trial], history: Callable[[], History]
    ) -> None:
        self._info = info
        self._history = history
        self.session = session
        self.trials = trials

    @property
    def name(self) -> str:
        """Its name."""
        return self._info.name

    @property
    def method(self) -> str:
        """Name of its method."""
        return str(self._info.spec.get("method", ""))

    @property
    def problem(self) -> Problem:
        """The problem, with the newest version of the space."""
        return self.session.ledger.problem

    def history(self) -> History:
        """The trials as arrays."""
        return self._history()


class Told:
    """The arrays of a study, brought up to date by what is new in its log.

    Args:
        store: Where it is.
        info: What the store says about it.
    """

    def __init__(self, store: Store, info: StudyInfo) -> None:
        self._store = store
        self._info = info
        self._history: History | None = None
        self._rev = 0
        self._lock = threading.Lock()

    def __call__(self) -> History:
        """The arrays as they are now; nobody changes them any more."""
        info, store = self._info, self._store
        with self._lock:
            if self._history is None:
                self._history = History(stored_problem(info, None))
            full = True
            while full:
                records = store.read(info.id, self._rev, _BLOCK)
                for record in records:
                    self._history.apply(record.event)
                    self._rev = record.seq
                full = len(records) == _BLOCK
            return self._history.copy()


class Charts:
    """The figures of a server.

    Args:
        pool: Where they are made.
    """

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self._pool = pool
        self._kept: OrderedDict[Key, Packed | str] = OrderedDict()
        self._size = 0
        self._making: dict[Key, asyncio.Task[Packed | str]] = {}

    async def of(self, key: Key, make: Callable[[], Any]) -> Packed:
        """What was made for a key, or is made now; whoever asks for the same meanwhile waits for it.

        Args:
            key: The study, the state of its log, and what is wanted.
            make: Makes plain data of it.

        Raises:
            Refused: If the study has not enough for it, or it takes too long; it is then ready for the next who asks.
        """
        found = self._kept.get(key)
        if found is None:
            task = self._making.get(key)
            if task is None:
                task = asyncio.create_task(self._make(key, make))
                self._making[key] = task
                task.add_done_callback(lambda _: self._making.pop(key, None))
            try:
                async with asyncio.timeout(DEADLINE):
                    found = await asyncio.shield(task)
            except TimeoutError:
                raise Refused(
                    503, "HTTP", f"This chart takes longer than {DEADLINE:g} s. Ask again later.", retry=10
                ) from None
        else:
            self._kept.move_to_end(key)
        if isinstance(found, str):
            raise Refused(422, "TW020", found)
        return found

    async def _make(self, key: Key, make: Callable[[], Any]) -> Packed | str:
        mark = f"{key[0]}-{key[1]}-{key[2]}"

        def work() -> Packed | str:
            try:
                return Packed(encode(make()), mark)
            except TunewrightError as error:
                return str(error)

        found = await asyncio.get_running_loop().run_in_executor(self._pool, work)
        self._kept[key] = found
        self._size += _weight(found)
        while self._size > _MOST and len(self._kept) > 1:
            self._size -= _weight(self._kept.popitem(last=False)[1])
        return found


def _weight(found: Packed | str) -> int:
    return 500 + (len(found) if isinstance(found, str) else len(found.body) + len(found.small or b""))


def drawn(seen: Seen, kind: str, options: dict[str, str]) -> dict[str, Any]:
    """A figure as plain data.

    Raises:
        ConfigError: If there is no such chart or option, or the study has too few results for it.
    """
    from tunewright.analysis.plots import figure
    from tunewright.analysis.wired import as_dict

    found: Figure = figure(seen, kind, **told(kind, options))
    return as_dict(found)


def transferred(seen: Seen, options: dict[str, str]) -> dict[str, Any]:
    """What the proxies of a study with a scale say of its target, as plain data.

    Raises:
        ConfigError: If it has no scale, or an option is none.
    """
    from tunewright.scaling.proxy import horizon_of, transfer

    unknown = sorted(set(options) - {"parameter", "horizon"})
    if unknown:
        raise ConfigError(f"transfer takes parameter and horizon; got {unknown[0]!r:.40}. Leave it out.")
    horizon = horizon_of(options.get("horizon"))
    return transfer(seen.problem, seen.trials, options.get("parameter"), horizon).to_dict()


def told(kind: str, options: dict[str, str]) -> dict[str, Any]:
    """Options of a chart as its function wants them, which says so in its annotations.

    Raises:
        ConfigError: If there is no such chart, or an option is none or no number where one is wanted.
    """
    from tunewright.analysis import plots

    plots.options(kind)
    wanted = inspect.signature(plots.KINDS[kind]).parameters
    out: dict[str, Any] = {}
    for name, text in options.items():
        read = _READERS.get(str(wanted[name].annotation)) if name in wanted else None
        if read is None:
            known = ", ".join(n for n, p in wanted.items() if str(p.annotation) in _READERS) or "no options"
            raise ConfigError(f"The chart {kind!r} takes {known}; got {name!r:.40}. Leave it out.")
        try:
            out[name] = read(text)
        except ValueError:
            raise ConfigError(
                f"The option {name!r} of a chart must be a finite number; got {text!r:.40}. Correct it."
            ) from None
    return out


def listed(seen: Seen) -> list[ChartLine]:
    """The charts that make sense for a study; whether it has results enough is said by the chart itself."""
    from tunewright.analysis.inside import CHOSEN, HYPER
    from tunewright.analysis.plots import KINDS

    problem, trials = seen.problem, seen.trials
    some = [*trials[:_SOME], *trials[-_SOME:]]
    several, pairs = problem.m > 1, problem.space.d > 1
    sense = {
        **dict.fromkeys(("pareto", "hypervolume", "attainment"), several),
        **dict.fromkeys(("stopping", "regret", "ablation"), not several),
        **dict.fromkeys(("contour", "interactions", "footprint"), pairs),
        "curves": any(t.reports for t in some),
        "inside": bool(HYPER.of(some)),
        "chosen": bool(CHOSEN.of(some)),
        "lineage": any(t.parent is not None for t in trials),
        "transfer": problem.scale is not None and not several,
    }
    return [
        ChartLine(kind, title(kind), PAGES.get(kind, "overview")) for kind in KINDS if sense.get(kind, True)
    ]


def title(kind: str) -> str:
    """The name of a kind of chart for people."""
    return _TITLES.get(kind, kind.capitalize())
