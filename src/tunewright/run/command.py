"""Trains with an existing script, unchanged: fills its command line, reads its metrics, stops it by signal.

Runs in a worker process like any training function, so that limits, leases and logs are the same.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import math
import os
import re
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, BinaryIO

from tunewright.core.limits import DEPTH, NAME, STEP
from tunewright.errors import ConfigError, RunError
from tunewright.run.guard import die_with_parent
from tunewright.run.hygiene import for_training
from tunewright.run.template import fill
from tunewright.run.worker import Attempt

if TYPE_CHECKING:
    from tunewright.run.tfevents import EventFolder

_TAIL = 4000
_POLL = 0.2
_STEPS = ("step", "epoch", "iteration")
_WORD = r"[A-Za-z_][\w./@\-]*"
_VALUE = r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|nan|inf)"
_PAIR = re.compile(rf"(?<![\w./:@\-])({_WORD})\s*[=:]\s*({_VALUE})(?![\w.:])", re.IGNORECASE)
_COUNT = re.compile(r"\b(?:step|epoch|iteration)\b\s*[=:#\[(]?\s*(\d+)", re.IGNORECASE)
_MEMORY = re.compile(
    rb"CUDA out of memory|OutOfMemoryError|CUDNN_STATUS_ALLOC_FAILED|std::bad_alloc|^MemoryError|"
    rb"Cannot allocate memory|RESOURCE_EXHAUSTED",
    re.MULTILINE,
)
_UNSURE = 3
_KILLED = 137
_SEEDS = 2**31
_DIGITS = 15
Found = tuple[int | None, dict[str, float]]


def script(
    argv: Sequence[str],
    *,
    metrics: str = "stdout",
    cwd: str | os.PathLike[str] | None = None,
    grace: float = 10.0,
    seeds: int = 1,
    retry: Mapping[str, int] | None = None,
    alone: bool = True,
) -> Callable[..., Any]:
    """A training function that runs a command.

    Args:
        argv: Program and arguments with ``{name}`` placeholders.
        metrics: ``"stdout"``: JSON lines and ``name=value`` pairs; ``"jsonl:FILE"``: JSON lines appended to a file,
            whose name may have placeholders; ``"tb:FOLDER"``: TensorBoard event files below a folder, likewise;
            ``"regex:PATTERN"``: named groups on standard output.
        cwd: Folder to run in; this one when None.
        grace: Seconds between asking the script to end and ending it.
        seeds: Times that a configuration is trained, each with a seed of its own; the result is the mean, with the
            standard deviation as ``NAME_std``. Early stopping looks at the first.
        retry: How often a script is begun again in the same attempt after it ended as ``"failed"`` or ``"oom"``.
        alone: Whether nobody else writes event files into that folder meanwhile; else those that this script's own
            processes write are told apart by their process id.

    Raises:
        ConfigError: If the program is not found or ``metrics`` cannot be used.
    """
    reader_of(metrics)
    folder = Path(cwd or Path.cwd()).absolute()
    program = argv[0]
    if "{" not in program and _which(program, folder) is None:
        raise ConfigError(f"A command must start with a program; got '{program}', which is not found here.")
    options: dict[str, Any] = {"argv": list(argv), "metrics": metrics, "cwd": str(folder), "grace": grace}
    options |= {"seeds": seeds, "retry": dict(retry or {}), "alone": alone}
    return partial(run_script, tunewright_command=options)


def _which(program: str, folder: Path) -> str | None:
    found = shutil.which(program) or (shutil.which(str(folder / program)) if "/" in program else None)
    return found or (sys.executable if program in ("python", "python3") else None)


def reader_of(metrics: str) -> Callable[[str], Found | None]:
    """Reads one line of output: the step, if it names one, and the metrics; None when there are none.

    Raises:
        ConfigError: If ``metrics`` is not understood.
    """
    kind, _, rest = metrics.partition(":")
    if metrics == "stdout":
        return read_line
    if kind in ("jsonl", "tb") and rest:
        return read_json
    if kind == "regex" and rest:
        try:
            pattern = re.compile(rest)
        except re.error as error:
            raise ConfigError(f"A metrics pattern must be a regular expression; got '{error}'.") from None
        if not pattern.groupindex:
            raise ConfigError(
                f"A metrics pattern must name its groups; got {rest!r}. Write 'acc (?P<acc>[\\d.]+)'."
            )
        return partial(read_pattern, pattern)
    raise ConfigError(
        f"metrics must be stdout, jsonl:FILE, tb:FOLDER or regex:PATTERN; got {metrics!r}. Choose one of them."
    )


def read_line(line: str) -> Found | None:
    """Metrics of a line of standard output: a JSON object, or ``name=value`` and ``name: value`` pairs."""
    if line.lstrip().startswith("{"):
        found = read_json(line)
        if found is not None:
            return found
    count = _COUNT.search(line)
    values = {k: float(v) for k, v in _PAIR.findall(line) if k.lower() not in _STEPS}
    if count is None and not values:
        return None
    return (int(count[1]) if count is not None and len(count[1]) <= _DIGITS else None), values


def read_json(line: str) -> Found | None:
    """Metrics of a line that is a JSON object; nested objects get dotted names."""
    try:
        data = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict):
        return None
    step = next((data[k] for k in _STEPS if isinstance(data.get(k), int | float)), None)
    values = {k: v for k, v in _numbers(data, "") if k not in _STEPS}
    return (int(step) if step is not None and abs(step) <= STEP else None), values


def _numbers(data: Mapping[str, Any], prefix: str, level: int = 1) -> Iterator[tuple[str, float]]:
    for name, value in data.items():
        if isinstance(value, dict) and level < DEPTH:
            yield from _numbers(value, f"{prefix}{name}.", level + 1)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            with contextlib.suppress(OverflowError):
                yield f"{prefix}{name}", float(value)


def read_pattern(pattern: re.Pattern[str], line: str) -> Found | None:
    """Metrics of a line by the named groups of a pattern; a group ``step`` or ``epoch`` is the step."""
    match = pattern.search(line)
    if match is None:
        return None
    step: int | None = None
    values: dict[str, float] = {}
    for name, text in match.groupdict().items():
        with contextlib.suppress(TypeError, ValueError, OverflowError):
            if name in _STEPS:
                step = int(found) if abs(found := float(text)) <= STEP else None
            else:
                values[name] = float(text)
    return step, values


class Meter:
    """Turns lines into reports of a trial; steps that are counted from 0 become steps done.

    Args:
        trial: The running trial.
        read: Reads one line.

    Attributes:
        quiet: Whether nothing is reported, as for the further seeds of a configuration.
        latest: Newest value of every metric seen.
        ended: Whether the trial should end now.
    """

    def __init__(self, trial: Attempt, read: Callable[[str], Found | None]) -> None:
        self._trial = trial
        self._read = read
        self._names = trial.objectives
        self._step: int | None = None
        self._first = 1
        self._said = trial.step
        self._rest = ""
        self.quiet = False
        self.latest: dict[str, float] = {}
        self.ended = False

    def feed(self, data: bytes) -> None:
        """Takes in output; incomplete lines wait for their end."""
        lines = (self._rest + data.decode("utf-8", "replace")).replace("\r", "\n").split("\n")
        self._rest = lines.pop()[-100_000:]
        for line in lines:
            self.line(line)

    def close(self) -> None:
        """Takes in a last line without an end."""
        if self._rest:
            self.line(self._rest)
            self._rest = ""

    def line(self, line: str) -> None:
        """Takes in one line."""
        found = self._read(line[:100_000]) if line else None
        if found is not None:
            self.take(*found)

    def take(self, step: int | None, values: Mapping[str, float]) -> None:
        """Takes in measurements, with the step that they name, if any."""
        if step is not None:
            self._first = min(self._first, step)
            self._step = step + 1 - self._first
        self.latest.update({k: v for k, v in values.items() if 0 < len(k) <= NAME and k.isprintable()})
        if not any(name in values for name in self._names) or self.ended or self.quiet:
            return
        number = self._number()
        if number is not None and number > self._said:
            self._said = number
            self._step = None
            metrics: dict[str, Any] = {k: v for k, v in self.latest.items() if k not in ("cost", "variance")}
            if not self._trial.report(number, **metrics) and not self._trial.complete:
                self.ended = True

    def _number(self) -> int | None:
        """The step that these values belong to; where a study has steps and the script names none, lines count."""
        if self._step is not None:
            return self._step
        return self._said + 1 if self._trial.until is not None else None

    def result(self) -> dict[str, float]:
        """The final metrics.

        Raises:
            ConfigError: If an early trial did not print what is optimised: no other would.
            RunError: If a later one did not.
        """
        missing = [n for n in self._names if n not in self.latest]
        if not missing:
            return dict(self.latest)
        seen = sorted(self.latest)[:20]
        near = [n for n in seen if n.lower() in missing[0].lower() or missing[0].lower() in n.lower()]
        near = difflib.get_close_matches(missing[0], seen, 1) or near
        hint = f"Did you mean '{near[0]}'?" if near else f"Print '{missing[0]}=0.123', or pass --metrics."
        text = f"The script must report '{missing[0]}', which the study optimises; its output named {seen or 'no metric'}. {hint}"
        raise (ConfigError if self._trial.number < _UNSURE else RunError)(text)


def run_script(trial: Attempt, *, tunewright_command: Mapping[str, Any]) -> dict[str, float] | None:
    """Runs a command as the training of a trial, once for every seed; see ``script``.

    Raises:
        RunError: If it ends with another status than 0.
        MemoryError: If it says that memory ran out.
        ConfigError: If it does not report the objective.
    """
    options = tunewright_command
    found: list[dict[str, float]] = []
    for index in range(options.get("seeds", 1)):
        result = _patiently(trial, options, (trial.seed + index) % _SEEDS, index > 0)
        if result is None:
            return None
        found.append(result)
    if len(found) == 1:
        return found[0]
    names = [name for name in found[0] if all(name in one for one in found)]
    means = {name: math.fsum(one[name] for one in found) / len(found) for name in names}
    spread = {
        f"{n}_std": math.sqrt(math.fsum((one[n] - means[n]) ** 2 for one in found) / (len(found) - 1))
        for n in trial.objectives
        if n in means
    }
    return {**spread, **means}


def _patiently(trial: Attempt, options: Mapping[str, Any], seed: int, quiet: bool) -> dict[str, float] | None:
    """Runs the script, and again where it failed and may be tried again."""
    left = dict(options.get("retry") or {})
    while True:
        try:
            return _once(trial, options, seed, quiet)
        except (RunError, MemoryError) as error:
            why = "oom" if isinstance(error, MemoryError) else "failed"
            if left.get(why, 0) < 1:
                raise
            left[why] -= 1
            print(f"trial {trial.number}: {why}, tried again", file=sys.stderr, flush=True)  # noqa: T201 - its log


def _once(trial: Attempt, options: Mapping[str, Any], seed: int, quiet: bool) -> dict[str, float] | None:
    folder = trial.folder
    values = {"trial": trial.number, "seed": seed, "checkpoint_dir": str(folder), **trial.params}
    argv = fill(options["argv"], values)
    cwd = Path(options["cwd"])
    argv[0] = _which(argv[0], cwd) or argv[0]
    meter = Meter(trial, reader_of(options["metrics"]))
    meter.quiet = quiet
    environment = {
        **for_training(os.environ),
        "TUNEWRIGHT_TRIAL": str(trial.number),
        "TUNEWRIGHT_CHECKPOINT_DIR": str(folder),
        "TUNEWRIGHT_SEED": str(seed),
        "PYTHONUNBUFFERED": "1",
    }
    environment.pop("TUNEWRIGHT_WORKER", None)
    killed = _oom_kills()
    source = _Source(options, values, cwd)
    parent = os.getpid()
    process = subprocess.Popen(  # noqa: S603 - the user's own program, without a shell
        argv,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        process_group=0,
        preexec_fn=partial(_begin, parent),  # noqa: PLW1509 - a worker has no other thread
    )
    source.group = process.pid
    with _together(process):
        tail = _follow(process, meter, source, options["grace"])
        status = process.wait()
    meter.close()
    if meter.ended:
        if any(folder.iterdir()):
            trial.checkpoint.save(files=str(folder))
        return None
    if status:
        _fail(status, tail, _oom_kills() > killed)
    return meter.result()


def _oom_kills() -> int:
    """How many processes the kernel has ended for want of memory since it started; 0 where it does not say."""
    try:
        text = Path("/proc/vmstat").read_text(encoding="ascii")
    except OSError:
        return 0
    return int(text.partition("\noom_kill ")[2].partition("\n")[0] or 0)


@contextlib.contextmanager
def _together(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Ends the script with everything it started when this is left, and when the driver is killed meanwhile."""
    worker = bool(os.environ.get("TUNEWRIGHT_WORKER"))

    def leave(number: int, frame: FrameType | None) -> None:
        _signal(process, signal.SIGKILL)
        os._exit(1)

    before = signal.getsignal(signal.SIGTERM)
    if worker:
        signal.signal(signal.SIGTERM, leave)
        die_with_parent(0, signal.SIGTERM)
    try:
        yield
    finally:
        _signal(process, signal.SIGKILL)
        process.wait()
        if worker:
            die_with_parent(0)
            signal.signal(signal.SIGTERM, before)


def _begin(parent: int) -> None:
    """Between fork and exec: the script gets Ctrl-C back, and ends when its worker does."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    die_with_parent(parent)


def _follow(process: subprocess.Popen[bytes], meter: Meter, source: _Source, grace: float) -> bytes:
    """Reads the script's output until it ends, passes it on to the log, and returns the end of standard error.

    A script that should stop early is asked to, and ended when it does not within ``grace`` seconds.
    """
    assert process.stdout is not None
    assert process.stderr is not None
    tail = b""
    leave_by: float | None = None
    with process.stdout as out, process.stderr as err, selectors.DefaultSelector() as selector:
        for stream, fd in ((out, 1), (err, 2)):
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, selectors.EVENT_READ, fd)
        while True:
            over = process.poll() is not None
            ready = selector.select(0 if over else _POLL) if selector.get_map() else []
            for key, _ in ready:
                data = os.read(key.fd, 1 << 16)
                if not data:
                    selector.unregister(key.fileobj)
                    continue
                os.write(key.data, data)
                if key.data == 2:
                    tail = (tail + data)[-_TAIL:]
                elif source.printed:
                    meter.feed(data)
            source.feed(meter, last=over)
            if over and not ready:
                return tail
            if not over and not selector.get_map():
                time.sleep(_POLL / 10)
            if meter.ended and leave_by is None:
                _signal(process, signal.SIGTERM)
                leave_by = time.monotonic() + grace
            if leave_by is not None and time.monotonic() > leave_by:
                _signal(process, signal.SIGKILL)


class _Source:
    """Where the metrics of a script come from, if not from what it prints."""

    def __init__(self, options: Mapping[str, Any], values: Mapping[str, Any], cwd: Path) -> None:
        kind, _, rest = options["metrics"].partition(":")
        place = cwd / fill([rest], values)[0] if kind in ("jsonl", "tb") else cwd
        self.group = 0
        self.printed = kind not in ("jsonl", "tb")
        self._file = _File(place) if kind == "jsonl" else None
        self._events: EventFolder | None = None
        if kind == "tb":
            from tunewright.run.tfevents import EventFolder

            own = options.get("alone", True) or place != cwd / rest
            self._events = EventFolder(place, None if own else self._wrote)

    def feed(self, meter: Meter, *, last: bool) -> None:
        """Gives the meter what was written since."""
        if self._file is not None:
            meter.feed(self._file.read())
        if self._events is not None:
            for step, values in self._events.read(last=last):
                meter.take(step, values)

    def _wrote(self, process: int) -> bool:
        """Whether a process belongs to this script."""
        try:
            return process == self.group or os.getpgid(process) == self.group
        except ProcessLookupError:
            return False


class _File:
    """What a script appends to a file from now on."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stream: BinaryIO | None = None
        self._start = path.stat().st_size if path.exists() else 0

    def read(self) -> bytes:
        if self._stream is None:
            try:
                self._stream = self._path.open("rb")
            except OSError:
                return b""
            # A file that the script began anew is read from its beginning.
            size = os.fstat(self._stream.fileno()).st_size
            self._stream.seek(self._start if size >= self._start else 0)
        return self._stream.read()


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    """Signals the script with everything it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _fail(status: int, tail: bytes, starved: bool) -> None:
    """Says how the script ended; a shell gives 137 for a child that was killed, which the kernel does for memory."""
    text = tail.decode("utf-8", "replace").strip()
    if _MEMORY.search(tail) or status == _KILLED or (starved and status == -signal.SIGKILL):
        raise MemoryError(f"the script ran out of memory\n{text}".strip())
    how = f"with exit status {status}"
    if status < 0:
        with contextlib.suppress(ValueError):
            how = f"by {signal.Signals(-status).name}"
    raise RunError(f"the script was ended {how}\n{text}" if status < 0 else f"the script ended {how}\n{text}")
