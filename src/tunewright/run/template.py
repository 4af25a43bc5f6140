"""Commands with placeholders, and the short notation for parameters: ``{lr:log 1e-5..1e-1}``.

A placeholder is ``{name}`` or ``{name:declaration}``; ``{{text}}`` stands for ``{text}`` itself, and braces around
anything else, such as JSON, are left alone. Declarations::

    1e-5..1e-1          a real number          log 1e-5..1e-1     on a log scale
    16..512             a whole number         int log 16..512    on a log scale
    0..1 step 0.1       with a step            adam|sgd|lion      one of these
    order 16|32|64      values with an order   bool               true or false
    permutation a|b|c   an order of all        subset 1..2 a|b|c  some of these, here one or two

Each may end in ``= value``, which is then tried first; of an order or a selection ``= b|a|c``. Their values reach the
command as JSON lists.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tunewright.core.domains import (
    Bool,
    Choice,
    Domain,
    Float,
    Int,
    Order,
    Permutation,
    Subset,
    domain_from_dict,
)
from tunewright.core.space import Space
from tunewright.errors import ConfigError, SpaceError

RESERVED = ("trial", "seed", "checkpoint_dir")
_PLACE = re.compile(r"\{\{([^{}]*)\}\}|\{([A-Za-z_][\w.\-]*)(?::([^{}]*))?\}")
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_RANGE = re.compile(
    rf"(?:(?P<kind>int|float)\s+)?(?:(?P<log>log)\s+)?(?P<low>{_NUMBER})\s*\.\.\s*(?P<high>{_NUMBER})"
    rf"(?:\s+step\s+(?P<step>{_NUMBER}))?"
)
_SUBSET = re.compile(r"subset\s+(?:(?P<least>\d+)\s*\.\.\s*(?P<most>\d+)\s+)?(?P<options>.*)")
_MARK = "\ue000{}\ue001"
_SHAPES = ("log", "int", "int_log", "float", "choice", "order", "bool", "permutation", "subset")


def declared(name: str, text: str) -> Domain:
    """The domain that a declaration in the short notation means.

    Args:
        name: The parameter, for messages.
        text: The declaration.

    Raises:
        SpaceError: If it cannot be read or its bounds cannot be used.

    Example:
        >>> declared("width", "int log 16..512")
        Int(low=16, high=512, log=True, step=1, guess=None, confidence=0.5)
    """
    with _named(name):
        return _declared(name, text)


@contextlib.contextmanager
def _named(name: str) -> Iterator[None]:
    """Says which parameter an error is about, where it does not say so itself."""
    try:
        yield
    except SpaceError as error:
        if f"'{name}'" in str(error):
            raise
        raise type(error)(f"'{name}': {error}") from None


def _declared(name: str, text: str) -> Domain:
    body, equals, default = (part.strip() for part in text.partition("="))
    found = _RANGE.fullmatch(body)
    believed: dict[str, Any] = {"guess": scalar(default), "confidence": 0.0} if equals else {}
    if found is not None:
        return _ranged(found, believed)
    if body == "bool":
        if equals:
            believed["guess"] = default.lower() == "true"
        return Bool(**believed)
    if body.startswith(("permutation ", "subset ")):
        return _combined(body, default if equals else None)
    ordered = body.startswith("order ")
    options = [scalar(part.strip()) for part in body.removeprefix("order ").split("|")]
    if len(options) < 2 or "" in options or ".." in body:
        raise SpaceError(
            f"'{name}' must be declared like 'log 1e-5..1e-1', 'int 1..8', 'adam|sgd' or 'bool'; got {text!r}. Correct it."
        )
    return Order(options, **believed) if ordered else Choice(options, **believed)


def _combined(body: str, default: str | None) -> Permutation | Subset:
    """An order or a selection; ``= a|b`` is its default, ``=`` alone the empty selection."""

    def listed(text: str) -> list[Any]:
        return [scalar(part.strip()) for part in text.split("|")] if text.strip() else []

    believed: dict[str, Any] = {} if default is None else {"guess": listed(default), "confidence": 0.0}
    found = _SUBSET.fullmatch(body)
    if found is None:
        return Permutation(listed(body.removeprefix("permutation ")), **believed)
    least, most = (None if found[k] is None else int(found[k]) for k in ("least", "most"))
    return Subset(listed(found["options"]), least or 0, most, **believed)


def _ranged(found: re.Match[str], believed: dict[str, Any]) -> Domain:
    low, high, step = (scalar(found[k]) if found[k] else None for k in ("low", "high", "step"))
    whole = all(isinstance(v, int) for v in (low, high, step) if v is not None)
    log = found["log"] is not None
    kind = found["kind"] or ("int" if whole else "float")
    if kind == "int":
        return Int(_whole(low), _whole(high), log=log, step=_whole(step or 1), **believed)
    if believed:
        believed["guess"] = _real(believed["guess"])
    return Float(_real(low), _real(high), log=log, step=None if step is None else _real(step), **believed)


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _real(value: Any) -> Any:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def scalar(text: str) -> int | float | str:
    """A number where the text is one, else the text."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def domain_of(name: str, given: Any) -> Domain:
    """The domain of a parameter as JSON or TOML files give it.

    Args:
        name: The parameter, for messages.
        given: The short notation; a list of options; a table with ``type`` in the stored form; or a table with one
            of ``log``, ``int``, ``int_log``, ``float`` (each ``[low, high]``), ``choice`` (options, or a table of
            nested parameters by option), ``order``, ``bool``, ``permutation``, ``subset`` (with ``least`` and
            ``most``), and perhaps ``step`` and ``default``.

    Raises:
        SpaceError: If it is none of these.
    """
    with _named(name):
        return _domain(name, given)


def _domain(name: str, given: Any) -> Domain:
    if isinstance(given, str):
        return _declared(name, given)
    if isinstance(given, list):
        return Choice(given)
    if not isinstance(given, Mapping):
        raise SpaceError(
            f"'{name}' must be a text, a list or a table; got {given!r:.120}. Try 'log 1e-5..1e-1'."
        )
    fields = dict(given)
    default = fields.pop("default", None)
    believed: dict[str, Any] = {} if default is None else {"guess": default, "confidence": 0.0}
    if "type" in fields:
        return domain_from_dict({**fields, **believed})
    shapes = [s for s in _SHAPES if s in fields]
    if len(shapes) != 1:
        raise SpaceError(
            f"'{name}' needs exactly one of {', '.join(_SHAPES)}, or a type; got {sorted(fields)}. Correct it."
        )
    return _shaped(name, shapes[0], fields, believed)


def _shaped(name: str, shape: str, fields: dict[str, Any], believed: dict[str, Any]) -> Domain:
    value = fields.pop(shape)
    step = {"step": fields.pop("step")} if "step" in fields else {}
    sizes = {k: fields.pop(k) for k in ("least", "most") if shape == "subset" and k in fields}
    if fields:
        raise SpaceError(f"'{name}' does not take {sorted(fields)}. Remove them.")
    if shape == "bool":
        return Bool(**believed)
    if shape == "order":
        return Order(value, **believed)
    if shape == "permutation":
        return Permutation(value, **believed)
    if shape == "subset":
        return Subset(value, **sizes, **believed)
    if shape == "choice":
        if isinstance(value, Mapping):
            value = {k: space_of_mapping(v) if v else None for k, v in value.items()}
        return Choice(value, **believed)
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) != 2:
        raise SpaceError(f"'{name}' needs two bounds, [low, high]; got {value!r:.120}. Correct them.")
    log = shape in ("log", "int_log")
    if shape.startswith("int"):
        return Int(value[0], value[1], log=log, **step, **believed)
    return Float(value[0], value[1], log=log, **step, **believed)


def space_of_mapping(given: Mapping[str, Any]) -> Space:
    """A space from JSON or TOML data: the stored form with ``parameters``, or declarations by name.

    Raises:
        SpaceError: If a declaration cannot be used.
    """
    if isinstance(given.get("parameters"), list):
        return Space.from_dict(given)
    return Space({str(k): domain_of(str(k), v) for k, v in given.items()})


def parse_command(command: str | Sequence[str]) -> tuple[list[str], dict[str, Domain]]:
    """Splits a command into arguments, as a shell would but without one, and takes out its declarations.

    Args:
        command: One text, or arguments that are split already.

    Returns:
        The arguments, with bare ``{name}`` placeholders, and the declared parameters in order.

    Raises:
        ConfigError: If there is no command or its quotes do not match.
        SpaceError: If a declaration cannot be used, or a parameter is declared twice in different ways.
    """
    space: dict[str, Domain] = {}
    kept: list[str] = []

    def take(match: re.Match[str]) -> str:
        name, text = match[2], match[3]
        if name is not None and text is not None:
            domain = declared(name, text)
            if name in space and space[name] != domain:
                raise SpaceError(f"'{name}' must be declared once; the command declares it twice.")
            space[name] = domain
        kept.append(match[0] if name is None else f"{{{name}}}")
        return _MARK.format(len(kept) - 1)

    words = [command] if isinstance(command, str) else list(command)
    marked = [_PLACE.sub(take, word) for word in words]
    if isinstance(command, str):
        try:
            marked = shlex.split(marked[0])
        except ValueError as error:
            raise ConfigError(
                f"A command must have matching quotes; splitting it gave '{error}'. Correct it."
            ) from None
    if not marked:
        raise ConfigError("A command needs at least a program; got nothing. Write 'python train.py'.")
    back = re.compile(_MARK.format(r"(\d+)"))
    return [back.sub(lambda m: kept[int(m[1])], word) for word in marked], space


def check_names(argv: Sequence[str], space: Space) -> None:
    """Refuses placeholders that no parameter fills.

    Raises:
        ConfigError: If there is one, with the nearest name.
    """
    known = [*(e.name for e in space.entries), *RESERVED]
    for word in argv:
        for match in _PLACE.finditer(word):
            if match[2] is not None and match[2] not in known:
                close = difflib.get_close_matches(match[2], known, 1)
                hint = f"Did you mean '{close[0]}'?" if close else f"Declare it: '{{{match[2]}:0.1..1.0}}'."
                raise ConfigError(f"Every placeholder must be a parameter; got '{{{match[2]}}}'. {hint}")


def fill(argv: Sequence[str], values: Mapping[str, Any]) -> list[str]:
    """The arguments with values in place of placeholders; a value is never split again.

    An argument whose parameter is inactive is left out, and so is the option before it.

    Example:
        >>> fill(["train", "--lr", "{lr}", "--depth", "{depth}"], {"lr": 0.1})
        ['train', '--lr', '0.1']
    """
    out: list[str] = []
    bare = False
    for word in argv:
        names = [m[2] for m in _PLACE.finditer(word) if m[2] is not None]
        if any(n not in values for n in names):
            if bare and out:
                out.pop()
            bare = False
            continue
        out.append(_PLACE.sub(lambda m: f"{{{m[1]}}}" if m[2] is None else text_of(values[m[2]]), word))
        bare = not names and word.startswith("-")
    return out


def text_of(value: Any) -> str:
    """A value as a command-line argument: booleans as ``true`` and ``false``, others so that they read back."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else json.dumps(value)
