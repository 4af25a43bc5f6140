"""Which options of a script are worth tuning, and within what bounds; read off its source without running it."""

from __future__ import annotations

import ast
import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_METRIC = re.compile(r"([A-Za-z_][\w/.]*)\s*[=:]\s*$")
_PRINTED = re.compile(r"[\"']?([A-Za-z_][\w/.]*)[\"']?\s*[=:]\s*[{%]")
_LARGE = (
    "acc",
    "auc",
    "f1",
    "score",
    "r2",
    "precision",
    "recall",
    "map",
    "iou",
    "bleu",
    "reward",
    "return",
    "dice",
)
_SMALL = ("loss", "err", "rmse", "mse", "mae", "perplexity", "ppl", "nll", "wer", "cer", "fid", "logloss")
_HELD = ("epochs", "steps", "iterations", "rounds", "workers", "device", "gpu", "port", "log", "print", "verbose", "save",
         "eval", "version", "debug", "resume", "seed", "rank", "interval", "every", "patience")  # fmt: skip
_SOME = 6


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a script.

    Attributes:
        flag: As it is written on a command line, such as ``--lr``; a bare name for a positional argument.
        kind: ``float``, ``int``, ``str``, ``choice`` or ``bool``.
        default: Its default, or None.
        options: What it may be, for a choice.
        help: What the script says of it.
        required: Whether the script needs it.
    """

    flag: str
    kind: str
    default: Any = None
    options: tuple[Any, ...] = ()
    help: str = ""
    required: bool = False

    @property
    def name(self) -> str:
        """The name of its parameter."""
        return self.flag.lstrip("-").replace("-", "_")


def options_of(source: str) -> list[Option]:
    """The options that a script declares with argparse, click or typer's ``Option``, in order.

    Args:
        source: The script's text.

    Raises:
        SyntaxError: If it is not Python.
    """
    found: dict[str, Option] = {}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and _called(node) in ("add_argument", "option"):
            option = _option(node)
            if option is not None:
                found.setdefault(option.flag, option)
    return list(found.values())


def _called(node: ast.Call) -> str:
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _plain(node: ast.expr | None) -> Any:
    if node is None:
        return None
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None


def _option(node: ast.Call) -> Option | None:
    flags = [f for f in map(_plain, node.args) if isinstance(f, str)]
    if not flags:
        return None
    flag = next((f for f in flags if f.startswith("--")), flags[0]).partition("/")[0]
    words = {k.arg: k.value for k in node.keywords if k.arg}
    default, action = _plain(words.get("default")), _plain(words.get("action"))
    if action in ("help", "version", "append", "count", "store_const") or _plain(words.get("nargs")):
        return None
    text = _plain(words.get("help"))
    text = " ".join(text.split()) if isinstance(text, str) else ""
    required = bool(_plain(words.get("required"))) or not flag.startswith("-")
    if action in ("store_true", "store_false") or _plain(words.get("is_flag")):
        return Option(flag, "bool", action == "store_false", (), text)
    options = _plain(words.get("choices")) or _choice(words.get("type"))
    if isinstance(options, list | tuple | set) and len(options) > 1:
        return Option(flag, "choice", default, tuple(options), text, required)
    given = words.get("type")
    kind = (
        given.id if isinstance(given, ast.Name) else type(default).__name__ if default is not None else "str"
    )
    return Option(flag, kind if kind in ("float", "int", "bool") else "str", default, (), text, required)


def _choice(node: ast.expr | None) -> Any:
    """``click.Choice([...])``."""
    if isinstance(node, ast.Call) and _called(node) == "Choice" and node.args:
        return _plain(node.args[0])
    return None


_HELP = re.compile(
    r"^\s+(?:-\w,?\s+)?(--[A-Za-z][\w-]*)(?:[ =]\s?(\{[^}]+\}|\[[\w|.\s-]+\]|<?[A-Z][A-Z_]*>?|[a-z]+))?",
    re.MULTILINE,
)
_GIVEN = re.compile(r"\[?default[:=]\s*([^\])\s;]+)", re.IGNORECASE)
_KINDS = {"FLOAT": "float", "INTEGER": "int", "INT": "int", "float": "float", "int": "int"}


def options_of_help(text: str) -> list[Option]:
    """The options that a program's ``--help`` names, with what it says of types, choices and defaults.

    Args:
        text: What it printed.
    """
    found: dict[str, Option] = {}
    matches = list(_HELP.finditer(text))
    for i, match in enumerate(matches):
        flag, shape = match[1], match[2] or ""
        if flag in ("--help", "--version"):
            continue
        rest = text[match.end() : matches[i + 1].start() if i + 1 < len(matches) else len(text)]
        said = " ".join(rest.split())
        given = _GIVEN.search(said)
        default = _literal(given[1]) if given else None
        if shape.startswith(("{", "[")):
            options = [_literal(w.strip()) for w in re.split(r"[,|]", shape[1:-1]) if w.strip()]
            found.setdefault(flag, Option(flag, "choice", default, tuple(options), said))
            continue
        kind = _KINDS.get(shape) or (type(default).__name__ if isinstance(default, int | float) else "str")
        found.setdefault(flag, Option(flag, kind if shape else "bool", default, (), said))
    return list(found.values())


def _literal(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text.strip("'\"")


def metric_of(source: str) -> tuple[str, str] | None:
    """The metric that a script seems to print, with ``minimize`` or ``maximize``; those of a validation set first."""
    names = list(dict.fromkeys(_printed(source)))
    known = [(n, goal) for n in names for goal in [_goal(n)] if goal]
    known.sort(key=lambda pair: not re.search(r"val|test|dev|eval", pair[0].lower()))
    return known[0] if known else None


def _goal(name: str) -> str:
    low = name.lower()
    if any(word in low for word in _SMALL):
        return "minimize"
    return "maximize" if any(word in low for word in _LARGE) else ""


def _printed(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.JoinedStr):
            for part, following in zip(node.values, node.values[1:], strict=False):
                text = _plain(part)
                if isinstance(text, str) and isinstance(following, ast.FormattedValue):
                    yield from (m[1] for m in [_METRIC.search(text)] if m)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and len(node.value) < 500:
            yield from (m[1] for m in _PRINTED.finditer(node.value))
        elif isinstance(node, ast.Call) and _called(node) == "dumps":
            given = node.args[0] if node.args else None
            keys = [_plain(k) for k in given.keys] if isinstance(given, ast.Dict) else []
            yield from (k for k in keys if isinstance(k, str))


def worth(option: Option) -> bool:
    """Whether an option looks like a hyperparameter and not like a path, a switch or the length of a training."""
    words = re.split(r"[_\W]", option.name.lower())
    held = any(w in _HELD or w.rstrip("s") in _HELD for w in words)
    return not held and option.kind in ("float", "int", "choice")


def declaration(option: Option) -> str | None:
    """What a sweep file says of an option, as TOML; None where no bounds can be guessed."""
    default = option.default
    if option.kind == "choice":
        listed = ", ".join(json.dumps(o) for o in option.options)
        return (
            f"{{ choice = [{listed}], default = {json.dumps(default)} }}"
            if default in option.options
            else f"[{listed}]"
        )
    if isinstance(default, bool) or not isinstance(default, int | float) or not math.isfinite(default):
        default = None
    bounds = (
        _whole(option.name.lower(), default) if option.kind == "int" else _real(option.name.lower(), default)
    )
    if bounds is None:
        return None
    shape, low, high = bounds
    inside = default is not None and low <= default <= high
    first = f", default = {_toml(default)}" if inside else ""
    if shape == "order":
        powers = sorted(
            {2**k for k in range(int(low).bit_length() - 1, int(high).bit_length())}
            | ({default} if inside else set())
        )
        return f"{{ order = [{', '.join(map(str, powers))}]{first} }}"
    return f"{{ {shape} = [{_toml(low)}, {_toml(high)}]{first} }}"


def _toml(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text + ".0" if isinstance(value, float) and not re.search(r"[.e]", text) else text


def _has(name: str, *words: str) -> bool:
    parts = re.split(r"[_\W]", name)
    return any(w in parts for w in words)


def _real(name: str, default: Any) -> tuple[str, float, float] | None:
    """Bounds of a real number, by what names mean in machine learning, else around the default."""
    if _has(name, "lr", "rate", "alpha", "eta") and not _has(name, "dropout", "drop"):
        base = default if default and default > 0 else 1e-2
        return (
            "log",
            float(f"{base / 100:.1g}"),
            max(float(f"{base:.1g}"), min(1.0, float(f"{base * 30:.1g}"))),
        )
    if _has(name, "wd", "decay", "l1", "l2", "reg", "lambda", "weight"):
        return "log", 1e-6, max(1e-1, 10 * (default or 0.0))
    if _has(name, "dropout", "drop"):
        return "float", 0.0, max(0.6, default or 0.0)
    if _has(name, "momentum", "beta", "beta1", "gamma"):
        return "float", min(0.5, default or 0.5), max(0.99, default or 0.0)
    if default is None or default <= 0:
        return None
    return "log", float(f"{default / 10:.2g}"), float(f"{default * 10:.2g}")


def _whole(name: str, default: Any) -> tuple[str, int, int] | None:
    """Bounds of a whole number, likewise."""
    base = int(default) if default else 0
    if _has(name, "batch", "bs"):
        return "order", max(1, (base or 64) // 4), (base or 64) * 4
    if _has(name, "layers", "depth", "blocks"):
        return "int", 1, max(4, 2 * base)
    if base < 1:
        return None
    if base < _SOME:
        return "int", 1, 2 * base + 1
    return "int_log", max(1, base // 4), base * 4
