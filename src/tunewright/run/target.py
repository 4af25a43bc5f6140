"""How a training function reaches a worker process: by name where it can be imported, by fork where it cannot."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Callable
from functools import partial
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from typing import Any

import msgspec

from tunewright.errors import ConfigError

MAIN = "__tunewright_main__"


class EntryReached(BaseException):
    """A worker that imports the user's script has come to the line that runs the study; what it needs is defined."""


class Target(msgspec.Struct, frozen=True, omit_defaults=True):
    """A function by name.

    Attributes:
        module: Module to import, or ``__main__`` for the script at ``path``.
        name: Qualified name of the function in it.
        path: File of the script, for ``__main__``.
        options: Arguments to bind, plain values only.
    """

    module: str
    name: str
    path: str = ""
    options: dict[str, Any] = {}


def target_of(function: Callable[..., Any]) -> Target | None:
    """The target of a function, or None when another process could not import it."""
    options: dict[str, Any] = {}
    if isinstance(function, partial) and not function.args:
        options, function = dict(function.keywords), function.func
        try:
            msgspec.json.encode(options)
        except (TypeError, ValueError):
            return None
    module, name = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if module is None or "<" in name:
        return None
    if module in ("__main__", MAIN):
        path = getattr(sys.modules.get(module), "__file__", None)
        return Target("__main__", name, os.path.abspath(path), options) if path else None  # noqa: PTH100
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return Target(module, name, "", options) if found is function else None


def resolve(target: Target) -> Callable[..., Any]:
    """Imports the function; a script is run up to the line that would run the study again.

    Raises:
        ConfigError: If the function is not there.
    """
    if target.module == "__main__":
        scope = _run_script(target.path)
    else:
        scope = vars(importlib.import_module(target.module))
    found: Any = scope.get(target.name.partition(".")[0])
    for part in target.name.split(".")[1:]:
        found = getattr(found, part, None)
    if not callable(found):
        raise ConfigError(
            f"A worker process must find the training function by name; '{target.name}' is not in "
            f"{target.path or target.module} before the study is run. Define it at the top level of a module."
        )
    return partial(found, **target.options) if target.options else found


def _run_script(path: str) -> dict[str, Any]:
    """Runs a script as a module of another name, so that what is guarded by ``__main__`` does not run."""
    loader = SourceFileLoader(MAIN, path)
    spec = spec_from_loader(MAIN, loader)
    assert spec is not None
    module = module_from_spec(spec)
    sys.modules[MAIN] = module
    with contextlib.suppress(EntryReached):
        loader.exec_module(module)
    return vars(module)


def in_worker() -> bool:
    """Whether this process is a worker that is importing the user's script."""
    return MAIN in sys.modules and bool(os.environ.get("TUNEWRIGHT_WORKER"))
