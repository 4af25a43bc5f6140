"""Runs the same command in many Slurm jobs, through submitit: an array of workers on one study.

*Use when* the machines are Slurm's. Every job runs the command that would run or continue the study here, such as
``tunewright run ...``; the jobs find each other in the store, and none of them has to be there for the others to go on.
*Do not use when* the nodes cannot reach one store: jobs on several nodes need PostgreSQL or a server.

Slurm's warning, before the time limit or when the job is pre-empted, lets the command pause: trials save and are recorded
as ``preempted``, and the job is put back into the queue, where it goes on with the study. A job that is killed leaves a
lease that runs out; another job takes its trial up again from the last checkpoint.

submitit writes what a job is to run into a file in its folder with Python's pickle, and nodes read it from there. It
holds the words of the command and nothing else; studies and checkpoints are never kept so.
"""

from __future__ import annotations

import math
import os
import runpy
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

from tunewright.core.units import seconds, whole
from tunewright.errors import ConfigError, RunError, missing_extra
from tunewright.store.urls import VARIABLE

FOLDER = ".tunewright/jobs"
COMMANDS = ("run", "resume", "worker")
_REACHED = ("postgresql://", "postgres://", "http://", "https://")
_STOPPED = (128 + 15, 128 + 1, 128 + 2)
_LOOK = 0.2
_REQUEUES = 1000


def submit(
    words: Sequence[str],
    *,
    workers: int = 8,
    folder: str | os.PathLike[str] = FOLDER,
    partition: str | None = None,
    time: float | str = "1h",
    cpus: int = 1,
    gpus: int = 0,
    mem: str | None = None,
    array_parallelism: int | None = None,
    warning: float | str = 90.0,
    name: str = "tunewright",
    local: bool = False,
    **slurm: Any,
) -> list[Any]:
    """Submits an array of jobs that all run one command of ``tunewright``.

    Args:
        words: The command without its first word, such as ``["run", "--trials", "200", "train.py:train"]``. Its study must
            be in a store that all nodes reach, named by ``--storage`` or by ``TUNEWRIGHT_STORE``.
        workers: Jobs in the array.
        folder: Folder for what the jobs print, and for submitit's files; on a disk that the nodes share.
        partition: Partition of the cluster.
        time: Time limit of a job, in seconds or as ``"4h"``; a job that reaches it goes on in a new one.
        cpus: Cores of a job.
        gpus: GPUs of a job.
        mem: Memory of a job, such as ``"32GB"``.
        array_parallelism: Jobs that may run at a time; None for all.
        warning: Time before the limit at which a job is told to pause; trials save in it.
        name: Name of the jobs.
        local: Run the jobs on this machine instead, as submitit's local executor does; for trying it out.
        **slurm: Further options of ``sbatch``, such as ``account="x"`` or ``constraint="a100"``.

    Returns:
        The jobs as submitit gives them, with ``job_id``, ``state``, ``cancel()`` and ``result()``, which is the exit code.

    Raises:
        ConfigError: If something cannot be used.
        MissingExtra: If submitit is not installed.
        RunError: If Slurm does not take the jobs.
    """
    _check(list(words), local)
    whole("workers", workers)
    lasts, warned = seconds(time), seconds(warning)
    if not lasts or warned is None or warned >= lasts:
        raise ConfigError(
            f"A job must last longer than its warning; got {time!r} and {warning!r}. Correct them."
        )
    settings: dict[str, Any] = {"signal_delay_s": math.ceil(warned)}
    if local:
        settings |= {"timeout_min": lasts / 60, "gpus_per_node": gpus}
    else:
        settings |= {"time": math.ceil(lasts / 60), "cpus_per_task": cpus, "gpus_per_node": gpus or None}
        settings |= {"partition": partition, "mem": mem, "job_name": name}
        settings |= {
            "array_parallelism": array_parallelism or workers,
            "additional_parameters": slurm or None,
        }
    return _submitted(Job(list(words), _path()), workers, Path(folder), settings, local)


def _path() -> list[str]:
    return [p or str(Path.cwd()) for p in sys.path]


def _submitted(job: Job, workers: int, folder: Path, settings: dict[str, Any], local: bool) -> list[Any]:
    try:
        import submitit
    except ImportError:
        raise missing_extra("submitit", "slurm") from None
    kind: Any = submitit.LocalExecutor if local else submitit.SlurmExecutor
    try:
        executor = kind(folder, max_num_timeout=_REQUEUES)
        executor.update_parameters(**{k: v for k, v in settings.items() if v is not None})
        with executor.batch():
            return [executor.submit(job) for _ in range(workers)]
    except (RuntimeError, OSError, submitit.core.utils.FailedJobError) as error:
        raise RunError(
            f"Slurm must take the jobs; got '{error!s:.500}'. Try the options with sbatch, or use --local."
        ) from error


class Job:
    """What one job does: the command, until the study is done or Slurm wants the machine back.

    Args:
        words: The command of ``tunewright``.
        path: ``sys.path`` of whoever submitted it.
    """

    def __init__(self, words: list[str], path: list[str]) -> None:
        self.words = words
        self.path = path

    def __call__(self) -> int:
        """Runs the command.

        Raises:
            RunError: If it fails, so that Slurm shows the job as failed.
        """
        sys.path += [p for p in self.path if p not in sys.path]
        with Warned() as warned:
            code = _run(self.words)
        if warned.number is not None and code in _STOPPED and callable(warned.before):
            # submitit's own handler puts the job back into the queue, and ends this process.
            warned.before(warned.number, None)
        if code not in (0, *_STOPPED):
            raise RunError(f"The command of a job must end well; it ended with {code}. Its output says why.")
        return code

    def checkpoint(self) -> Any:
        """What the job does when it runs again: the same, since the store knows how far the study is."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


class Warned:
    """Turns Slurm's warning into a SIGTERM, on which the command pauses its trials.

    Slurm sends the warning to every process of the job, the trials included, whom it would end. So it is blocked, which
    child processes inherit, and waited for in a thread.

    Attributes:
        number: The signal that came, or None.
        before: Who handled it before.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self.before: Any = signal.getsignal(_warning())
        self._signals = {_warning(), signal.SIGUSR1, signal.SIGUSR2}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True, name="tunewright-warned")

    def __enter__(self) -> Warned:
        self._terminate = signal.getsignal(signal.SIGTERM)
        # A library may have started threads that do not block it; a warning that meets one of them arrives here.
        self._handlers = {number: signal.signal(number, self._heard) for number in self._signals}
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, self._signals)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)

    def _heard(self, number: int, frame: Any) -> None:
        self.number = number

    def _listen(self) -> None:
        told = False
        while not self._over.is_set():
            found = signal.sigtimedwait(self._signals, _LOOK)
            if found is not None:
                self.number = found.si_signo
            # Until the command listens to SIGTERM there is nothing to pause.
            if self.number is not None and not told and signal.getsignal(signal.SIGTERM) != self._terminate:
                told = True
                os.kill(os.getpid(), signal.SIGTERM)


def _run(words: list[str]) -> int:
    """Runs ``python -m tunewright`` with these words in this process, and returns its exit code."""
    before = sys.argv
    sys.argv = ["tunewright", *words]
    try:
        runpy.run_module("tunewright", run_name="__main__")
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    finally:
        sys.argv = before
    return 0


def _warning() -> signal.Signals:
    """The signal that submitit asks Slurm for."""
    name = "SIG" + os.environ.get("SUBMITIT_PREEMPT_SIGNAL", "USR2")
    return signal.Signals[name]


def _check(words: list[str], local: bool) -> None:
    if not words or words[0] not in COMMANDS:
        raise ConfigError(
            f"A job runs one of the commands {', '.join(COMMANDS)}; got {' '.join(words[:1]) or 'nothing'!r}. Put that "
            "command, with all its options, after those of slurm."
        )
    given = _storage(words)
    password = urlsplit(given).password if "://" in given else None
    if password and given != os.environ.get(VARIABLE):
        raise ConfigError(
            f"The words of a job are written to files; the store's address holds a password. Put the address into {VARIABLE}, "
            "or the password into ~/.pgpass."
        )
    if not local and not given.startswith(_REACHED):
        raise ConfigError(
            f"Jobs need a store that every node reaches; got {given or 'none'!r}. Use postgresql:// or http://, by "
            f"--storage or {VARIABLE}."
        )


def _storage(words: list[str]) -> str:
    """The store that a command names, or that its environment does; for ``worker`` its address."""
    own = words[: words.index("--")] if "--" in words else words
    for i, word in enumerate(own):
        if word == "--storage" and i + 1 < len(own):
            return own[i + 1]
        if word.startswith("--storage="):
            return word.partition("=")[2]
    if own[0] == "worker":
        return next((w for w in own[1:] if "://" in w), os.environ.get(VARIABLE, ""))
    return os.environ.get(VARIABLE, "")
