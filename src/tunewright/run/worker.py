"""What a training function sees of its trial, and how one segment is executed.

The same code runs in the driver's process and in worker processes; only the channel differs.
"""

from __future__ import annotations

import inspect
import logging
import os
import random
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tunewright.core.domains import Bool, Choice, Domain, Float, Int, Order, Permutation, Subset
from tunewright.core.limits import error_kept
from tunewright.core.values import counted, returned, spent, split, spread
from tunewright.errors import CheckpointError, ConfigError, InvalidTrial, LeaseLost, StoreUnavailable
from tunewright.run.checkpoint import pack_tree, unpack_tree
from tunewright.run.messages import End, Finish, FromWorker, Report, Save, Segment, Suggest
from tunewright.run.stages import Channel, parts
from tunewright.store import blobs
from tunewright.store.depots import beside

_DICE = random.SystemRandom()  # pauses must not advance the generator that trainings draw from

log = logging.getLogger(__name__)
_PATIENCE, _AGAIN = 60.0, 1.0
_PACKAGE = str(Path(__file__).resolve().parent.parent) + os.sep


class Checkpoints:
    """The checkpoint of one trial: load where an earlier attempt or segment ended, save where this one is.

    Files are written completely or not at all, and checked against their digest when read.
    """

    def __init__(self, attempt: Attempt) -> None:
        self._attempt = attempt
        self._name = attempt._segment.checkpoint
        self._saved_at = attempt._segment.step if self._name else -1

    @property
    def exists(self) -> bool:
        """Whether there is something to load."""
        return self._name is not None

    def save(self, tree: Any = None, /, **named: Any) -> None:
        """Saves a tree of numbers, strings, arrays, tensors, lists, dicts and objects with ``state_dict``.

        Args:
            tree: What to save; or name the parts with keyword arguments.

        Raises:
            CheckpointError: If something in the tree cannot be saved without pickle.
        """
        self.save_bytes(pack_tree(named if tree is None else tree))

    def load(self, default: Any = None, /, **named: Any) -> Any:
        """Returns the tree that was saved, or ``default`` when there is none.

        Objects given by name get their part of the tree through ``load_state_dict``.

        Raises:
            CheckpointError: If the file is missing, damaged or lacks a named part.
        """
        if self._name is None:
            return default
        tree = unpack_tree(self.load_bytes() or b"")
        for name, target in named.items():
            if name not in tree:
                raise CheckpointError(
                    f"A checkpoint must hold '{name}'; it has {sorted(tree)}. Save the same parts."
                )
            target.load_state_dict(tree[name])
        return tree

    def load_teacher(self, default: Any = None) -> Any:
        """Returns the tree that the trial's teacher saved last, or ``default`` when it has none; see method ``boss``.

        Raises:
            CheckpointError: If the file is missing or damaged.
        """
        name = self._attempt._segment.teacher
        if name is None:
            return default
        return unpack_tree(blobs.get(self._attempt._segment.blobs, name))

    def save_bytes(self, data: bytes) -> None:
        """Saves bytes in a format of your own."""
        self._save(blobs.put, data)

    def load_bytes(self) -> bytes | None:
        """The bytes that were saved, or None."""
        return blobs.get(self._attempt._segment.blobs, self._name) if self._name is not None else None

    def save_file(self, path: str | os.PathLike[str]) -> None:
        """Saves a copy of a file."""
        self._save(blobs.put_file, path)

    def load_file(self) -> Path | None:
        """Path of the file that was saved, to be read only, or None."""
        return blobs.get_file(self._attempt._segment.blobs, self._name) if self._name is not None else None

    def _save(self, put: Callable[..., str], source: object) -> None:
        """Waits while the disk is full, as results do, before the attempt is given up."""
        segment, end = self._attempt._segment, time.monotonic() + _PATIENCE
        stem = f"t{segment.trial}-s{self._attempt._at}"
        while True:
            try:
                name = put(segment.blobs, stem, source, flush=segment.flush)
            except StoreUnavailable as error:
                if not error.passing or time.monotonic() > end:
                    raise
                log.warning("a checkpoint is waiting to be saved: %s", error)
                time.sleep(_AGAIN * (0.5 + _DICE.random()))
            else:
                self._keep(name)
                return

    def _keep(self, name: str) -> None:
        attempt = self._attempt
        if not attempt.complete:
            attempt._say(Save(attempt.number, attempt._segment.token, attempt._at, name))
        # The last one is told of with the result: else a worker lost in between would leave a trial that has all its
        # steps and not what the function returns after them.
        self._name, self._saved_at = name, attempt._at


class Attempt:
    """A trial while it runs; training functions get it as their ``trial`` argument.

    Attributes:
        params: Its parameters by name.
        number: Its number, dense from 0.
        step: Steps done so far, those before a pause included.
        until: Step at which this segment ends; None for a training without steps.
        seed: Seed for the training's own randomness; the same for every attempt of the trial.
        checkpoint: Loads and saves its state.
    """

    def __init__(self, segment: Segment, channel: Channel) -> None:
        self._segment = segment
        self._channel = channel
        self._verdict = ""
        self._diverged = ""
        self._last: dict[str, float] = {}
        self._variance: dict[str, float] | None = None
        self._kept: dict[str, Any] = {}
        self._met: list[str] = []
        self._began = time.monotonic()
        self._inside = 0
        self.params: dict[str, Any] = dict(segment.config)
        self.number = segment.trial
        self.step = segment.step
        self.until = segment.until
        self.seed = segment.seed
        self.checkpoint = Checkpoints(self)

    def __getitem__(self, name: str) -> Any:
        return self.params[name]

    def __repr__(self) -> str:
        return f"Attempt({self.number}, step={self.step}, until={self.until}, {self.params})"

    def steps(self, total: int | None = None) -> Iterator[int]:
        """The steps to train now, each numbered by how many are done after it; starts after a resumed checkpoint.

        Args:
            total: Steps of a full training, for studies opened without ``steps``.

        Raises:
            ConfigError: If neither the study nor the argument says how many steps there are.
        """
        if self.until is None and total is None:
            raise ConfigError(
                "trial.steps() needs to know how many steps a full training has; the study was opened without steps. "
                "Open it with steps=... or call trial.steps(total)."
            )
        end = self.until if self.until is not None else int(total or 0)
        while self.step < end and not self._verdict:
            self._inside = following = self.step + 1
            yield following
            self.step = max(self.step, following)
        self._save_kept()

    def report(
        self,
        step: int | None = None,
        /,
        *,
        cost: float | None = None,
        variance: Mapping[str, float] | None = None,
        **metrics: Any,
    ) -> bool:
        """Reports measurements; when this returns they are safely in the log.

        Args:
            step: Steps done; must grow from report to report. Left out, it is one more than the last.
            cost: Cost of the steps since the previous report, in the study's unit (seconds by default).
            variance: Variance of a metric, where known.
            **metrics: Values by name.

        Returns:
            Whether to go on; False when the trial should pause or stop here.

        Raises:
            ConfigError: If the step does not grow or a value is not a number.
            LeaseLost: If the trial was taken over by another worker.
        """
        number = counted(self.step + 1 if step is None else step)
        if number <= self.step and (self._last or number < self.step):
            raise ConfigError(
                f"Steps must grow from report to report; got {number} after {self.step}. Count on."
            )
        good, bad = split(metrics)
        known, used = spread(variance), spent(cost)
        self.step = number
        message = Report(self.number, self._segment.token, number, good, bad, known, used)
        self._last = {**self._last, **good}
        self._variance = message.variance or self._variance
        wrong = [f"{k}={v}" for k, v in (bad or {}).items() if k in self.objectives]
        if wrong:
            self._diverged = f"reported {', '.join(wrong)} at step {self.step}"
        self._say(message)
        if wrong:
            self._verdict = "stop"
        return not self.should_pause()

    def should_pause(self) -> bool:
        """Whether to save a checkpoint and return: the segment is over, or somebody asked for it."""
        return bool(self._verdict) or (self.until is not None and self.step >= self.until)

    @property
    def objectives(self) -> list[str]:
        """Names of the metrics that the study optimises."""
        return [name for name, _ in self._segment.objectives]

    @property
    def sizes(self) -> dict[str, int]:
        """Sizes of the model to train now, in studies with a scale; else empty."""
        return dict(self._segment.sizes)

    def size(self, name: str) -> int:
        """One of ``sizes``.

        Raises:
            ConfigError: If the study has no such size.
        """
        if name not in self._segment.sizes:
            raise ConfigError(
                f"trial.size needs a size of the study's scale; got {name!r}, it has {sorted(self._segment.sizes)}. "
                f"Open the study with scale=Scale({{{name!r}: (base, target)}})."
            )
        return self._segment.sizes[name]

    @property
    def rule(self) -> str:
        """Name of the parametrization to train under, in studies with a scale; else empty."""
        return str(self.params.get("rule", self._segment.rule)) if self._segment.sizes else ""

    @property
    def token(self) -> int:
        """The attempt's token, which fences it off once another one took over."""
        return self._segment.token

    @property
    def seconds(self) -> float:
        """Wall time since this segment began."""
        return time.monotonic() - self._began

    @property
    def complete(self) -> bool:
        """Whether all steps of a full training are done."""
        return self._segment.high is not None and self.step >= self._segment.high

    @property
    def folder(self) -> Path:
        """A folder of the trial's own for files that outlive its attempts; made when it is missing.

        Where checkpoints are kept at an address, it is a folder of this machine: an attempt on another finds it empty.
        """
        path = beside(self._segment.blobs) / "files" / f"trial-{self.number}"
        path.mkdir(parents=True, exist_ok=True)
        return path

    def keep(self, **objects: Any) -> None:
        """Keeps objects with ``state_dict`` in the checkpoint: restores them now, saves them when the trial pauses or ends.

        Args:
            **objects: For instance ``model=model, optimizer=optimizer``.
        """
        self._kept.update(objects)
        self.checkpoint.load(**objects)

    def suggest_float(
        self, name: str, low: float, high: float, *, log: bool = False, step: float | None = None
    ) -> float:
        """A real number in ``[low, high]``, for spaces that are declared while the function runs."""
        return float(self._suggest(name, Float(low, high, log=log, step=step)))

    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False, step: int = 1) -> int:
        """A whole number in ``[low, high]``."""
        return int(self._suggest(name, Int(low, high, log=log, step=step)))

    def suggest_categorical(self, name: str, options: Any) -> Any:
        """One of the options."""
        return self._suggest(name, Choice(list(options)))

    def suggest_order(self, name: str, values: Any) -> Any:
        """One of some values that have an order."""
        return self._suggest(name, Order(list(values)))

    def suggest_bool(self, name: str) -> bool:
        """True or false."""
        return bool(self._suggest(name, Bool()))

    def suggest_permutation(self, name: str, items: Any) -> list[Any]:
        """An order of some items."""
        return list(self._suggest(name, Permutation(list(items))))

    def suggest_subset(self, name: str, options: Any, least: int = 0, most: int | None = None) -> list[Any]:
        """Some of several options, at least ``least`` and at most ``most`` of them."""
        return list(self._suggest(name, Subset(list(options), least, most)))

    def _suggest(self, name: str, domain: Domain) -> Any:
        if name not in self._met:
            self._met.append(name)
        if name in self.params and domain.contains(self.params[name]):
            return self.params[name]
        answer = self._channel(Suggest(self.number, self._segment.token, name, domain.to_dict()))
        if answer.error:
            raise ConfigError(answer.error)
        self.params[name] = answer.value
        return answer.value

    @property
    def _at(self) -> int:
        """Steps in the weights now: the body of ``steps`` trains before it reports or saves."""
        return max(self.step, self._inside)

    def _say(self, message: FromWorker) -> None:
        answer = self._channel(message)
        if answer.verdict:
            self._verdict = answer.verdict
        if answer.error:
            raise LeaseLost(answer.error)

    def _save_kept(self) -> None:
        if self._kept and self._verdict != "stop" and self.checkpoint._saved_at < self.step:
            self.checkpoint.save(**self._kept)

    def finish(self, value: Any) -> Finish:
        """What the segment came to, once the function has returned."""
        segment, cost = self._segment, self.seconds
        if self.should_pause():
            self._save_kept()  # for a function that left the loop over its steps by itself
        checkpoint = self.checkpoint._name if self.checkpoint._saved_at == self.step else None
        if self._diverged:
            return Finish(self.number, segment.token, "failed", self.step, cost=cost, error=self._diverged)
        if value is not None or not self._last:
            metrics, bad = split(returned(value, self.objectives))
        else:
            metrics, bad = split(returned(self._last, self.objectives))
        for name in self.objectives:
            if bad and name in bad:
                error = f"returned {name}={bad[name]}"
                return Finish(self.number, segment.token, "failed", self.step, cost=cost, error=error)
        high, until = segment.high, segment.until
        if self._verdict and not (high is not None and self.step >= high):
            outcome: End = "stopped" if self._verdict == "stop" else "paused"
            return Finish(
                self.number, segment.token, outcome, self.step, metrics, cost=cost, checkpoint=checkpoint
            )
        if until is not None and self.step < until:
            self.step = until
            if until < (high or until):
                self._say(Report(self.number, segment.token, until, metrics))
        outcome = "paused" if until is not None and high is not None and until < high else "completed"
        return Finish(
            self.number,
            segment.token,
            outcome,
            self.step,
            metrics,
            self._variance,
            cost,
            "",
            checkpoint,
            self._met or None,
        )


def call(function: Callable[..., Any], attempt: Attempt) -> Any:
    """Calls a training function with what its signature asks for.

    A parameter named ``trial`` or annotated with ``Attempt`` gets the trial; parameters named like hyperparameters
    get their values; ``**kwargs`` gets the rest; a single other parameter gets the trial.
    """
    parameters = list(inspect.signature(function).parameters.values())
    values: dict[str, Any] = {}
    args: list[Any] = []
    config = attempt.params
    for parameter in parameters:
        if parameter.kind is parameter.VAR_POSITIONAL:
            continue
        if parameter.kind is parameter.VAR_KEYWORD:
            values.update({k: v for k, v in config.items() if k not in values})
            continue
        value = _argument(parameter, attempt, len(parameters) == 1)
        if value is _ABSENT:
            continue
        if parameter.kind is parameter.POSITIONAL_ONLY:
            args.append(value)
        else:
            values[parameter.name] = value
    return function(*args, **values)


_ABSENT = object()


def _argument(parameter: inspect.Parameter, attempt: Attempt, only: bool) -> Any:
    name = parameter.name
    if name == "trial" or parameter.annotation in (Attempt, "Attempt", "tw.Attempt"):
        return attempt
    if name in attempt.params:
        return attempt.params[name]
    if isinstance(parameter.default, Float | Int | Choice | Order | Bool | Permutation | Subset):
        return None
    if parameter.default is not parameter.empty:
        return _ABSENT
    if only:
        return dict(attempt.params) if name in ("params", "config", "hparams") else attempt
    return None


def execute(segment: Segment, function: Callable[..., Any], channel: Channel, *, child: bool) -> None:
    """Runs one segment and says how it ended, whatever the training function does.

    Args:
        segment: The work.
        function: The training function.
        channel: Where messages go.
        child: Whether this is a worker process; there, an interrupt ends the segment instead of the program.
    """
    for part, say in parts(segment, channel):
        attempt = Attempt(part, say)
        try:
            message = attempt.finish(call(function, attempt))
        except KeyboardInterrupt as error:
            if not child:
                raise
            message = failure(attempt, error)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever user code raises belongs to the trial
            message = failure(attempt, error)
        say(message)


def failure(attempt: Attempt, error: BaseException) -> Finish:
    """How a segment ended whose training function raised."""
    outcome: End = "failed"
    text = error_text(error)
    damaged = error.blob if isinstance(error, CheckpointError) else ""
    if isinstance(error, LeaseLost):
        outcome, text = "killed", str(error)  # nobody listens to this attempt any more
    elif isinstance(error, StoreUnavailable) or (damaged and damaged == attempt._segment.checkpoint):
        outcome, text = (
            "lost",
            str(error),
        )  # the place failed and not the parameters: the trial is tried again
    elif isinstance(error, InvalidTrial):
        outcome, text = "invalid", str(error)
    elif isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        outcome, text = "out_of_memory", text or "out of memory"
    elif isinstance(error, SystemExit):
        text = f"the training function called sys.exit({error.code!r})"
    elif isinstance(error, KeyboardInterrupt):
        outcome, text = "killed", "interrupted"
    return Finish(
        attempt.number,
        attempt.token,
        outcome,
        attempt.step,
        cost=attempt.seconds,
        error=error_kept(text),
        fatal=isinstance(error, ConfigError),
        damaged=damaged if outcome == "lost" else "",
    )


def error_text(error: BaseException) -> str:
    """The traceback without the frames of this package, since users look for their own."""
    chain = traceback.TracebackException.from_exception(error)
    link: traceback.TracebackException | None = chain
    while link is not None:
        own = [f for f in link.stack if not f.filename.startswith(_PACKAGE)]
        link.stack = traceback.StackSummary.from_list(own)
        link = link.__cause__ or link.__context__
    return "".join(chain.format()).strip()
