"""Runs segments on a Ray cluster: the driver stays where it is, workers are actors wherever there is room.

*Use when* a Ray cluster is there, or when trials need fractions of GPUs on several machines.
*Do not use when* one machine is enough (worker processes start faster), or as a place to keep results: the log is in the
store, and Ray holds nothing that is needed after a crash.

An actor does not train. It keeps one worker process, as ``run.processes`` does on this machine, and carries messages
between it and the driver; so a trial can be ended with everything it started, memory has a limit, what it prints goes to
its log file, and the next trial finds the process warm. Actors are not detached: they end when their driver is gone, and
their worker processes with them. A lost actor ends its segment as ``lost``; the trial goes on elsewhere from its last
checkpoint.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tunewright.errors import ConfigError, RunError, missing_extra
from tunewright.run.allowance import Limits
from tunewright.run.executor import Sink
from tunewright.run.messages import Answer, Finish, FromWorker, Segment, from_worker, pack, to_worker
from tunewright.run.processes import Processes
from tunewright.run.target import MAIN, Target, target_of
from tunewright.run.worker import call

log = logging.getLogger(__name__)
_LISTEN = 10.0
_SILENCE = 30.0
_CONTROL = 5.0
_UNANSWERED = 3600.0
_STILLBORN = 3
_REST = 2.0
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class Ray:
    """Where on Ray trials run, and with what each.

    Args:
        cpus: Cores of one trial.
        gpus: GPUs of one trial; 0.5 lets two trials share one. Ray counts them and does not divide their memory.
        resources: Other resources of one trial, as the nodes declare them.
        address: The cluster, such as ``"auto"`` or ``"ray://head:10001"``; None takes the one that this process is
            connected to, else ``RAY_ADDRESS``, else one on this machine, else starts one here for the run.
        runtime_env: What workers need, such as ``{"working_dir": ".", "pip": [...]}``; see Ray. Where this process is
            connected already, Ray takes no local folders in it.
        patience: Seconds to wait for room on the cluster before the run gives up.
        actor: More options of the actors, such as ``{"scheduling_strategy": "SPREAD"}``.
        init: More arguments of ``ray.init``.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    resources: Mapping[str, float] = field(default_factory=dict)
    address: str | None = None
    runtime_env: Mapping[str, Any] | None = None
    patience: float = 600.0
    actor: Mapping[str, Any] = field(default_factory=dict)
    init: Mapping[str, Any] = field(default_factory=dict)

    def executor(self, function: Callable[..., Any], workers: int, limits: Limits) -> RayExecutor:
        """Starts or joins Ray and asks it for workers.

        Raises:
            ConfigError: If something cannot be used.
            MissingExtra: If Ray is not installed.
        """
        return RayExecutor(function, workers, self, limits)


class Host:
    """The actor: hands segments to one worker process on its machine, and that process's words to the driver.

    Args:
        function: The training function by name, or a list with Ray's reference to it.
        limits: What the worker process may use.
        threads: Threads that numeric libraries may use.
        folder: The driver's folder, to work in where it exists; empty for Ray's.
        path: The driver's ``sys.path``.
    """

    def __init__(
        self,
        function: Target | list[Any],
        limits: Limits,
        threads: int,
        folder: str,
        path: list[str],
    ) -> None:
        for name in _THREADS:
            # Ray sets the first one only.
            os.environ.setdefault(name, str(threads))
        if folder and Path(folder).is_dir():
            os.chdir(folder)
        sys.path += [p for p in path if p not in sys.path]
        # What the function refers to can be imported only now that the path is set.
        found = function if isinstance(function, Target) else _nameless(_unpacked(function[0]))
        self._processes = Processes(found, 1, limits)
        self._processes.connect(self._say)
        self._inbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._outbox: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._segment: Segment | None = None
        self._closing = False
        # The kernel ends worker processes with the thread that started them, so this one stays.
        threading.Thread(target=self._serve, daemon=True).start()

    def ready(self) -> str:
        """Says that this actor is placed, and on which machine."""
        return os.uname().nodename

    def exchange(self, frame: bytes, seconds: float) -> list[bytes]:
        """Takes a segment or an answer, or nothing, and returns what the worker process says within some seconds."""
        if frame:
            self._inbox.put(frame)
        said: list[bytes] = []
        with contextlib.suppress(queue.Empty):
            said.append(self._outbox.get(timeout=seconds))
            while True:
                said.append(self._outbox.get_nowait())
        return said

    def kill(self, outcome: Literal["timed_out", "out_of_memory", "killed", "lost"], reason: str) -> None:
        """Ends the segment under way; its end is said by ``exchange``."""
        segment = self._segment
        if segment is not None:
            self._processes.condemn(segment.trial, outcome, reason)
            self._inbox.put(b"")

    def close(self) -> None:
        """Ends the worker process with everything it started."""
        self._closing = True
        self.kill("killed", "the executor was closed")
        self._inbox.put(b"")

    def _serve(self) -> None:
        while not self._closing:
            frame = self._inbox.get()
            segment = to_worker(frame) if frame else None
            if isinstance(segment, Segment):
                self._run(segment)
        self._processes.close()

    def _run(self, segment: Segment) -> None:
        self._segment = segment
        try:
            self._processes.submit(segment)
            while self._segment is not None:
                self._processes.poll(1.0)
        except Exception as error:  # noqa: BLE001 - whatever it is, the driver has to hear that this segment is over
            self._segment = None
            self._outbox.put(
                pack(Finish(segment.trial, segment.token, "lost", segment.step, error=repr(error)))
            )

    def _say(self, message: FromWorker) -> Answer:
        self._outbox.put(pack(message))
        if isinstance(message, Finish):
            self._segment = None
            return Answer()
        frame = b""
        with contextlib.suppress(queue.Empty):
            frame = self._inbox.get(timeout=_UNANSWERED)
        answer = to_worker(frame) if frame else None
        return answer if isinstance(answer, Answer) else Answer("stop", error="the segment was ended")


def _unpacked(reference: Any) -> Callable[..., Any]:
    import ray

    function: Callable[..., Any] = ray.get(reference, timeout=_SILENCE)
    return function


def _nameless(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that its worker process gets by fork: what Ray shipped cannot be imported there."""

    def train(trial: Any) -> Any:
        return call(function, trial)

    return train


class _Seat:
    """An actor as the driver sees it."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.ready = False
        self.reply: Any = actor.ready.remote()
        self.asked = time.monotonic()
        self.segment: Segment | None = None
        self.verdict: Literal["", "stop", "pause"] = ""

    def exchange(self, frame: bytes = b"") -> None:
        """Sends something and listens."""
        self.reply = self.actor.exchange.remote(frame, _LISTEN)
        self.asked = time.monotonic()


class RayExecutor:
    """Runs up to ``workers`` segments at a time, each by an actor of its own.

    Workers that wait for room on the cluster do not count into ``capacity``.

    Args:
        function: The training function. One that can be imported by name is; any other, and those of the script that
            is run, are shipped by Ray, with Ray's pickle, and need nothing on the nodes but the package itself.
        workers: Trials at a time.
        place: Where, and with what each.
        limits: Memory of one trial, and whether it gets a new process; devices are Ray's to share out.

    Raises:
        ConfigError: If an argument cannot be used, or Ray cannot ship the function.
        MissingExtra: If Ray is not installed.
        RunError: If the cluster cannot be joined.
    """

    def __init__(
        self,
        function: Callable[..., Any],
        workers: int,
        place: Ray | None = None,
        limits: Limits | None = None,
    ) -> None:
        self.place = place or Ray()
        self.workers = workers
        self.capacity = 1
        self._limits = limits or Limits()
        _check(workers, self.place, self._limits)
        self._ray, self._ours = _connected(self.place)
        self._function = self._shipped(function)
        self._seats: list[_Seat] = []
        self._waiting: deque[tuple[Segment, float]] = deque()
        self._sink: Sink | None = None
        self._stillborn = 0
        self._rest_until = 0.0
        self._trouble = ""
        self._closed = False

    def connect(self, sink: Sink) -> None:
        """Says where messages go, and asks for the workers."""
        self._sink = sink
        self._hire()

    def submit(self, segment: Segment) -> None:
        """Hands a segment to an idle worker, or keeps it until there is one."""
        self._waiting.append((segment, time.monotonic()))
        self._assign()

    def signal(self, trial: int, verdict: Literal["stop", "pause"]) -> None:
        """Remembers a verdict; the worker hears it with the next answer."""
        for seat in self._seats:
            if seat.segment is not None and seat.segment.trial == trial:
                seat.verdict = verdict

    def poll(self, timeout: float) -> None:
        """Delivers the messages that are there; waits for the first ones up to ``timeout`` seconds."""
        self._hire()
        listening = {seat.reply: seat for seat in self._seats if seat.reply is not None}
        if listening:
            self._ray.wait(list(listening), num_returns=1, timeout=timeout, fetch_local=False)
            ready, _ = self._ray.wait(
                list(listening), num_returns=len(listening), timeout=0, fetch_local=False
            )
            for reply in ready:
                self._hear(listening[reply])
        else:
            time.sleep(timeout)
        self._check_silence()
        self._assign()
        self._check_waiting()

    def kill(
        self, trial: int, outcome: Literal["timed_out", "out_of_memory", "killed", "lost"], reason: str
    ) -> None:
        """Ends a running segment at once, with all its processes."""
        for item in list(self._waiting):
            if item[0].trial == trial:
                self._waiting.remove(item)
                late = outcome == "timed_out"
                self._end(item[0], "lost" if late else outcome, f"{reason} to be placed" if late else reason)
        for seat in list(self._seats):
            if seat.segment is not None and seat.segment.trial == trial:
                segment, seat.segment = seat.segment, None
                try:
                    self._ray.get(seat.actor.kill.remote(outcome, reason), timeout=_CONTROL)
                    self._ray.get(seat.reply, timeout=_CONTROL)
                    seat.reply = None
                except self._ray.exceptions.RayError:
                    self._dismiss(seat)
                self._end(segment, outcome, reason)

    def close(self) -> None:
        """Ends all workers, and Ray if it was started for them."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(self._ray.exceptions.RayError):
            goodbyes = [seat.actor.close.remote() for seat in self._seats if seat.ready]
            if goodbyes:
                self._ray.wait(goodbyes, num_returns=len(goodbyes), timeout=_CONTROL)
        for seat in list(self._seats):
            self._dismiss(seat)
        if self._ours:
            self._ray.shutdown()

    # ------------------------------------------------------------------ workers

    def _hire(self) -> None:
        """Asks for the workers that are missing; after failures, not at once."""
        if len(self._seats) == self.workers or time.monotonic() < self._rest_until:
            return
        place = self.place
        folder = "" if place.runtime_env and "working_dir" in place.runtime_env else str(Path.cwd())
        path = [p or str(Path.cwd()) for p in sys.path]
        host = self._host()
        while len(self._seats) < self.workers:
            actor = host.remote(self._function, self._limits, max(1, int(place.cpus)), folder, path)
            self._seats.append(_Seat(actor))

    def _host(self) -> Any:
        """The actor class with what each worker asks of the cluster."""
        place = self.place
        options: dict[str, Any] = {
            "num_cpus": place.cpus,
            "num_gpus": place.gpus,
            "max_concurrency": 4,
            "max_restarts": 0,
            "max_task_retries": 0,
            **({"resources": dict(place.resources)} if place.resources else {}),
            # Where Ray was started for this run, the whole job has it already.
            **({"runtime_env": dict(place.runtime_env)} if place.runtime_env and not self._ours else {}),
            **({"memory": self._limits.memory} if self._limits.memory else {}),
            **place.actor,
        }
        try:
            return self._ray.remote(Host).options(**options)
        except (ValueError, TypeError) as error:
            raise ConfigError(
                f"Ray must take what workers ask for; it said '{error!s:.300}'. Correct it."
            ) from None

    def _assign(self) -> None:
        for seat in self._seats:
            if not self._waiting:
                return
            if seat.ready and seat.segment is None:
                seat.segment, seat.verdict = self._waiting.popleft()[0], ""
                seat.exchange(pack(seat.segment))

    def _hear(self, seat: _Seat) -> None:
        try:
            said = self._ray.get(seat.reply, timeout=_CONTROL)
        except self._ray.exceptions.RayError as error:
            self._lose(seat, _brief(error))
            return
        seat.reply = None
        if not seat.ready:
            log.info("a worker is ready on %s", said)
            seat.ready, self._stillborn = True, 0
            self._count()
            return
        assert self._sink is not None
        answer = b""
        for frame in said:
            message = from_worker(frame)
            if seat.segment is None or message.token != seat.segment.token:
                continue  # said before its segment was ended from here
            if isinstance(message, Finish):
                seat.segment = None
            told = self._sink(message)
            if seat.verdict and not told.verdict:
                told = Answer(seat.verdict, told.value, told.error)
            answer = pack(told)
        if seat.segment is not None:
            seat.exchange(answer)

    def _lose(self, seat: _Seat, why: str) -> None:
        """A worker is gone: takes it away and says what became of its segment."""
        self._dismiss(seat)
        if not seat.ready:
            self._stillborn += 1
            self._trouble = why
            self._rest_until = time.monotonic() + _REST * self._stillborn
        if seat.segment is not None:
            self._end(seat.segment, "lost", f"its Ray worker is gone: {why}")

    def _dismiss(self, seat: _Seat) -> None:
        self._seats.remove(seat)
        with contextlib.suppress(self._ray.exceptions.RayError, ValueError):
            self._ray.kill(seat.actor, no_restart=True)
        self._count()

    def _count(self) -> None:
        self.capacity = max(1, sum(seat.ready for seat in self._seats))

    def _check_silence(self) -> None:
        """A node that cannot be reached is noticed by Ray after a while, and by this at the latest."""
        limit = time.monotonic() - _LISTEN - _SILENCE
        for seat in list(self._seats):
            if seat.segment is not None and seat.reply is not None and seat.asked < limit:
                self._lose(seat, f"no word from its node for {_LISTEN + _SILENCE:.0f} seconds")

    def _check_waiting(self) -> None:
        """Gives up where no worker can be had at all."""
        if not self._waiting or any(seat.ready for seat in self._seats):
            return
        segment, since = self._waiting[0]
        place = self.place
        if self._stillborn >= _STILLBORN:
            why = f"Workers must be able to start on Ray; {self._stillborn} did not: {self._trouble}"
        elif time.monotonic() - since > place.patience:
            why = (
                f"Ray must have room for a worker with {place.cpus:g} CPUs and {place.gpus:g} GPUs; there was none for "
                f"{place.patience:g} seconds. Ask for less, or add nodes."
            )
        else:
            return
        self._waiting.popleft()
        self._end(segment, "lost", why, fatal=True)

    def _end(self, segment: Segment, outcome: Any, reason: str, *, fatal: bool = False) -> None:
        assert self._sink is not None
        self._sink(Finish(segment.trial, segment.token, outcome, segment.step, error=reason, fatal=fatal))

    def _shipped(self, function: Callable[..., Any]) -> Any:
        target = target_of(function)
        if target is not None and target.module not in ("__main__", MAIN):
            return target
        try:
            return [self._ray.put(function)]
        except (TypeError, ValueError, AttributeError) as error:
            raise ConfigError(
                f"Ray must be able to ship the training function; got '{error!s:.300}'. Move it to the top level of a "
                "module that workers can import."
            ) from None


def _check(workers: int, place: Ray, limits: Limits) -> None:
    if workers < 1:
        raise ConfigError(f"A study needs at least one worker; got {workers}. Pass workers=1 or more.")
    if limits.devices:
        raise ConfigError("Ray shares out devices by itself; got devices. Pass on=Ray(gpus=1) instead.")
    if place.cpus < 0 or place.gpus < 0 or not place.patience > 0:
        raise ConfigError(
            f"Ray needs cpus and gpus from 0 and patience above 0; got cpus={place.cpus}, gpus={place.gpus}, "
            f"patience={place.patience}. Correct them."
        )


def _connected(place: Ray) -> tuple[Any, bool]:
    """Ray, and whether it was joined for this executor."""
    # Ray reports how it is used unless this is set before it is imported.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise missing_extra("ray", "ray") from None
    if ray.is_initialized():
        return ray, False
    settings: dict[str, Any] = {
        "include_dashboard": False,
        "log_to_driver": False,
        "logging_level": logging.WARNING,
    }
    if place.address is not None:
        # A cluster that runs already has its own dashboard.
        settings = {"address": place.address, "log_to_driver": False, "logging_level": logging.WARNING}
    if place.runtime_env:
        settings["runtime_env"] = dict(place.runtime_env)
    try:
        ray.init(**{**settings, **place.init})
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        raise RunError(
            f"Ray must be reachable at {place.address or 'this machine'}; got '{error!s:.300}'. Start it with 'ray start', or "
            "correct the address."
        ) from None
    return ray, True


def _brief(error: BaseException) -> str:
    """What happened, without the traceback or the page of advice in between."""
    lines = [line.strip() for line in _COLOUR.sub("", str(error)).splitlines() if line.strip()]
    return " ... ".join(dict.fromkeys(line[:300] for line in (*lines[:1], *lines[-1:])))
