"""What is to be tuned, from a command line or a TOML file: one description, checked before anything runs."""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tunewright.cli.wishes import settle
from tunewright.core.space import Space
from tunewright.errors import ConfigError, missing_extra
from tunewright.run.template import check_names, declared, parse_command, space_of_mapping

TOP = (
    "name",
    "command",
    "function",
    "minimize",
    "maximize",
    "method",
    "early_stop",
    "steps",
    "seed",
    "seeds",
    "storage",
    "space",
    "run",
)
FILES = (".toml", ".yaml", ".yml", ".json")
LIMITS = (
    "trials", "timeout", "workers", "target", "stop_when", "trial_timeout", "cpu", "memory", "devices", "per_device",
    "fresh", "failures", "grace", "on", "cost",
    "metrics", "resumable", "cwd", "budget", "gpus", "gpus_per_trial", "retry", "seeds", "notify",
)  # fmt: skip


@dataclass
class Sweep:
    """A study to run.

    Attributes:
        name: Name of the study, or empty.
        argv: The command, empty for a function.
        function: ``file.py:name`` or ``module:name``, empty for a command.
        space: The space, or None when a function declares it.
        study: Arguments of ``Study.open``.
        limits: Arguments of ``Study.run``, and of the script.
        storage: Where the study lives.
    """

    name: str = ""
    argv: list[str] = field(default_factory=list)
    function: str = ""
    space: Space | None = None
    study: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, Any] = field(default_factory=dict)
    storage: str | None = None


def read_space(text: str) -> Space:
    """A space from a file (``.json``, ``.toml``), from JSON, or from ``lr=log 1e-5..1e-1; opt=adam|sgd``.

    Raises:
        ConfigError: If the file cannot be read.
        SpaceError: If it does not describe a space.
    """
    if text.lstrip().startswith("{"):
        return space_of_mapping(_json(text, "the text"))
    if text.endswith(FILES) or Path(text).is_file():
        data = read_file(text)
        inner = data.get("space")
        return space_of_mapping(inner if isinstance(inner, dict) and "parameters" not in data else data)
    entries = [e.partition("=") for e in text.split(";") if e.strip()]
    if not entries or not all(equals for _, equals, _ in entries):
        raise ConfigError(
            f"A space must be a .json or .toml file, JSON, or 'lr=log 1e-5..1e-1; opt=adam|sgd'; got {text!r:.120}."
        )
    return Space({n.strip(): declared(n.strip(), d.strip()) for n, _, d in entries})


def read_file(path: str) -> dict[str, Any]:
    """The table in a JSON, TOML or YAML file.

    Raises:
        ConfigError: If it cannot be read.
        MissingExtra: If it is YAML, and PyYAML is not installed.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"A file must be readable; '{path}' gave '{error}'. Correct the path.") from None
    if path.endswith((".yaml", ".yml")):
        return _yaml(text, path)
    if not path.endswith(".toml"):
        return _json(text, f"'{path}'")
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"'{path}' must be TOML; reading it gave '{error}'. Correct it.") from None


def _yaml(text: str, path: str) -> dict[str, Any]:
    try:
        yaml: Any = importlib.import_module("yaml")
    except ImportError:
        raise missing_extra("yaml", "yaml") from None
    try:
        data = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        why = " ".join(str(error).split())
        raise ConfigError(f"'{path}' must be YAML; reading it gave '{why}'. Correct it.") from None
    if not isinstance(data, dict):
        raise ConfigError(
            f"'{path}' must hold a table; it holds a {type(data).__name__}. Write 'name: value'."
        )
    return data


def _json(text: str, where: str) -> dict[str, Any]:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"A space must be valid JSON; {where} gave '{error}'. Correct it.") from None
    if not isinstance(data, dict):
        raise ConfigError(f"A space must be a JSON object; {where} is a {type(data).__name__}. Correct it.")
    return data


def sweep_of(words: Sequence[str], given: Mapping[str, Any], *, here: bool = True) -> Sweep:
    """Puts together what the command line and the file say; the command line wins.

    Args:
        words: What to tune: nothing (with ``command`` in ``given``), ``sweep.toml`` (or ``.yaml``, ``.json``),
            ``train.py:function``, or a command with its arguments.
        given: Options by name; None or empty where not given.
        here: Whether this machine will train; else its GPUs are not looked for.

    Raises:
        ConfigError: If it is not clear what to tune.
        SpaceError: If the space cannot be used.
    """
    told = {k: v for k, v in given.items() if v not in (None, (), "", False)}
    one = words[0] if len(words) == 1 else ""
    if one.endswith(FILES):
        told = {**_flat(read_file(one), one), **told}
    elif ":" in one and " " not in one and "{" not in one:
        told["function"] = one
    elif words:
        told["command"] = list(words)
    if ("command" in told) == ("function" in told):
        raise ConfigError(
            "run needs one thing to tune: --command '...', -- command with arguments, train.py:function, or sweep.toml; "
            f"got {'two' if 'command' in told else 'none'} of them."
        )
    sweep = Sweep(name=str(told.get("name", "")), storage=told.get("storage"))
    space = told.get("space")
    if space is not None:
        sweep.space = read_space(space) if isinstance(space, str) else space_of_mapping(space)
    if "command" in told:
        _command(sweep, told["command"])
    else:
        sweep.function = told["function"]
        sweep.name = sweep.name or sweep.function.partition(":")[2]
    if not here:
        told = {k: v for k, v in told.items() if k not in ("gpus", "gpus_per_trial", "devices", "per_device")}
    settle(told, sweep.argv)
    sweep.study = {k: told[k] for k in ("minimize", "maximize", "method", "steps", "seed") if k in told}
    sweep.limits = {k: told[k] for k in LIMITS if k in told}
    return sweep


def _command(sweep: Sweep, command: str | Sequence[str]) -> None:
    sweep.argv, inline = parse_command(command)
    if inline and sweep.space is not None:
        raise ConfigError(
            f"Parameters are declared in the command or in the space; got both, {', '.join(inline)} in the command. "
            f"Move them to one place."
        )
    if sweep.space is None and inline:
        sweep.space = Space(inline)
    if sweep.space is not None:
        check_names(sweep.argv, sweep.space)
    script = next((w for w in sweep.argv if w.endswith((".py", ".sh"))), sweep.argv[0])
    sweep.name = sweep.name or Path(script).stem


def _flat(data: dict[str, Any], path: str) -> dict[str, Any]:
    """A sweep file as one table of options.

    Raises:
        ConfigError: If it holds a word that means nothing.
    """
    import difflib

    data = {k: v for k, v in data.items() if k != "$schema"}
    limits = data.get("run", {})
    if not isinstance(limits, dict):
        raise ConfigError(
            f"'{path}' must have a table [run]; got {limits!r:.80}. Write [run] on a line of its own."
        )
    for words, known in ((data, TOP), (limits, LIMITS)):
        for word in words:
            if word not in known:
                close = difflib.get_close_matches(word, known, 1)
                hint = f"Did you mean '{close[0]}'?" if close else f"Known are {', '.join(known)}."
                raise ConfigError(f"'{path}' must hold words that mean something; got '{word}'. {hint}")
    return {**{k: v for k, v in data.items() if k != "run"}, **limits}


def load_function(target: str) -> Callable[..., Any]:
    """Imports ``file.py:name`` or ``module:name``; the folder is put on the path, so that workers find it too.

    Raises:
        ConfigError: If there is no such file or name.
    """
    where, _, name = target.rpartition(":")
    if not where or not name:
        raise ConfigError(
            f"A function must be given as file.py:name or module:name; got {target!r}. Add what is missing."
        )
    path = Path(where)
    if where.endswith(".py"):
        if not path.is_file():
            raise ConfigError(f"'{where}' must be a Python file; it does not exist. Correct the path.")
        folder, module = str(path.parent.absolute()), path.stem
    else:
        folder, module = str(Path.cwd()), where
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0] and error.name != module:
            raise ConfigError(
                f"'{where}' must be importable; it needs {error.name}, which is missing."
            ) from None
        raise ConfigError(f"'{where}' must be a module; none of that name is found here.") from None
    for part in name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise ConfigError(f"'{name}' must be a function in {where}; there is none. Correct the name.")
    function: Callable[..., Any] = found
    return function
