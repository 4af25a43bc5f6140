"""The parts that searches are made of, and what each is called among others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from tunewright.core.combinatorial import Permutation, Subset
from tunewright.core.domains import Bool, Choice, Float, Int, Order
from tunewright.core.options import plain
from tunewright.errors import SpaceError

MERGES = ("concat", "add")
DOMAINS = (Float, Int, Choice, Order, Bool, Permutation, Subset)


@dataclass(frozen=True, slots=True, init=False, repr=False)
class Module:
    """A basic module: a kind of layer, or of anything, and its settings.

    Args:
        kind: What it is, such as ``"conv"``; whoever compiles the graph looks it up.
        name: How parameters are named after it; its kind if empty.
        settings: Hyperparameters by name: a domain to choose from, or a plain value or list of them that is fixed.

    Raises:
        SpaceError: If the kind is no text, or a setting is neither a domain nor plain.

    Example:
        >>> Module("conv", filters=Order([16, 32, 64]), size=3).kind
        'conv'
    """

    kind: str
    settings: dict[str, Any]
    name: str

    def __init__(self, kind: str, /, *, name: str = "", **settings: Any) -> None:
        object.__setattr__(self, "kind", _kind(kind))
        object.__setattr__(self, "settings", {k: _setting(kind, k, v) for k, v in settings.items()})
        object.__setattr__(self, "name", _named(name))

    def __repr__(self) -> str:
        shown = [repr(self.kind), *(f"{k}={v!r}" for k, v in self.settings.items())]
        return f"Module({', '.join(shown)})"


@dataclass(frozen=True, slots=True, init=False)
class Sequence:
    """Parts one after another, each fed with the output of the one before.

    Args:
        parts: The parts; sequences without a name among them are spliced in. None at all pass their input on.
        name: How parameters are named after it; nothing if empty.
    """

    parts: tuple[Search, ...]
    name: str

    def __init__(self, *parts: Part, name: str = "") -> None:
        flat: list[Search] = []
        for part in map(search_of, parts):
            flat.extend(part.parts if isinstance(part, Sequence) and not part.name else (part,))
        object.__setattr__(self, "parts", tuple(flat))
        object.__setattr__(self, "name", _named(name))


@dataclass(frozen=True, slots=True, init=False)
class Or:
    """One of several parts.

    Args:
        parts: The alternatives; the parameter's options are their names or kinds.
        name: Name of the parameter; ``or`` if empty.

    Raises:
        SpaceError: If there is no alternative.
    """

    parts: tuple[Search, ...]
    name: str

    def __init__(self, *parts: Part, name: str = "") -> None:
        object.__setattr__(self, "parts", _several("Or", parts))
        object.__setattr__(self, "name", _named(name))


@dataclass(frozen=True, slots=True, init=False)
class AnyOrder:
    """Parts one after another, in an order that is searched.

    Args:
        parts: The parts.
        name: Name of the parameter, whose value is the list of their names or kinds; ``order`` if empty.

    Raises:
        SpaceError: If there is no part.
    """

    parts: tuple[Search, ...]
    name: str

    def __init__(self, *parts: Part, name: str = "") -> None:
        object.__setattr__(self, "parts", _several("AnyOrder", parts))
        object.__setattr__(self, "name", _named(name))


@dataclass(frozen=True, slots=True, init=False)
class Parallel:
    """Parts side by side, all fed with the same input.

    Args:
        parts: The parts.
        merge: What becomes of their outputs: ``"concat"`` or ``"add"``.
        name: How parameters are named after it; ``parallel`` if empty.

    Raises:
        SpaceError: If there is no part, or no such merge.
    """

    parts: tuple[Search, ...]
    merge: str
    name: str

    def __init__(self, *parts: Part, merge: str = "concat", name: str = "") -> None:
        if merge not in MERGES:
            raise SpaceError(f"Parallel needs merge to be 'concat' or 'add'; got {merge!r:.80}. Correct it.")
        object.__setattr__(self, "parts", _several("Parallel", parts))
        object.__setattr__(self, "merge", merge)
        object.__setattr__(self, "name", _named(name))


@dataclass(frozen=True, slots=True, init=False)
class Optional:
    """A part that may be left out.

    Args:
        part: The part.
        name: Name of the parameter, True or False; ``optional`` if empty.
    """

    part: Search
    name: str

    def __init__(self, part: Part, /, *, name: str = "") -> None:
        object.__setattr__(self, "part", search_of(part))
        object.__setattr__(self, "name", _named(name))


@dataclass(frozen=True, slots=True, init=False)
class Residual:
    """A part whose input is added to its output.

    Args:
        part: The part.
        name: How parameters are named after it; ``residual`` if empty.
    """

    part: Search
    name: str

    def __init__(self, part: Part, /, *, name: str = "") -> None:
        object.__setattr__(self, "part", search_of(part))
        object.__setattr__(self, "name", _named(name))


@dataclass(frozen=True, slots=True, init=False)
class Repeat:
    """Copies of a part, one after another; how many is searched.

    Args:
        part: The part.
        counts: Numbers of copies to choose from, from 0 on; or the one number there is.
        tied: Whether all copies share their choices; else each has its own.
        name: Name of the parameter; ``repeat`` if empty.

    Raises:
        SpaceError: If the counts are not distinct whole numbers from 0 on.
    """

    part: Search
    counts: tuple[int, ...]
    tied: bool
    name: str

    def __init__(
        self, part: Part, /, counts: Iterable[int] | int, *, tied: bool = False, name: str = ""
    ) -> None:
        object.__setattr__(self, "part", search_of(part))
        object.__setattr__(self, "counts", _counts(counts))
        object.__setattr__(self, "tied", bool(tied))
        object.__setattr__(self, "name", _named(name))


Search = Module | Sequence | Or | AnyOrder | Parallel | Optional | Residual | Repeat
Part = Search | str | list[Any] | tuple[Any, ...] | None


def search_of(part: Part) -> Search:
    """The search that a part stands for: a list is a sequence, a string a module, None nothing.

    Raises:
        SpaceError: If it is something else.
    """
    if isinstance(part, Search):
        return part
    if part is None:
        return Sequence()
    if isinstance(part, str):
        return Module(part)
    if isinstance(part, list | tuple):
        return Sequence(*part)
    raise SpaceError(
        f"A part must be a module or a combination of modules; got {part!r:.120}. Write Module('conv', filters=...)."
    )


def label_of(part: Search) -> str:
    """What a part is called among others."""
    if part.name:
        return part.name
    match part:
        case Module():
            return part.kind
        case Sequence():
            return "sequence" if part.parts else "none"
        case AnyOrder():
            return "order"
        case _:
            return type(part).__name__.lower()


def labels_of(parts: tuple[Search, ...]) -> list[str]:
    """What each of several parts is called; the second of the same kind gets a 2, and so on."""
    seen: Counter[str] = Counter()
    taken = {label_of(p) for p in parts}
    out = []
    for label in map(label_of, parts):
        seen[label] += 1
        numbered = label
        while seen[label] > 1:
            numbered = f"{label}_{seen[label]}"
            if numbered not in taken:
                break
            seen[label] += 1
        out.append(numbered)
        taken.add(numbered)
    return out


def inside(path: str, part: Search) -> str:
    """Place of the only part of another, or of the whole."""
    return path if isinstance(part, Sequence) and not part.name else join(path, label_of(part))


def join(path: str, label: str) -> str:
    """The place of a part with this label at a place."""
    return f"{path}.{label}" if path else label


def copy_of(part: Repeat, path: str, number: int) -> str:
    """Place of a copy; all of them share one if they are tied."""
    return path if part.tied else join(path, str(number))


def _kind(kind: Any) -> str:
    if not isinstance(kind, str) or not kind:
        raise SpaceError(f"A module needs its kind as text; got {kind!r:.80}. Write Module('conv').")
    return kind


def _counts(counts: Any) -> tuple[int, ...]:
    given = tuple(counts) if isinstance(counts, Iterable) else (counts,)
    whole = all(isinstance(c, int) and not isinstance(c, bool) and c >= 0 for c in given)
    if not given or not whole or len(set(given)) < len(given):
        raise SpaceError(
            f"Repeat needs distinct whole counts >= 0; got {counts!r:.120}. Write Repeat(part, [1, 2, 4])."
        )
    return tuple(sorted(given))


def _named(name: Any) -> str:
    if not isinstance(name, str):
        raise SpaceError(f"The name of a part must be text; got {name!r:.80}. Write name='stem'.")
    return name


def _several(what: str, parts: tuple[Part, ...]) -> tuple[Search, ...]:
    if not parts:
        raise SpaceError(f"{what} needs at least one part; got none. Write {what}('relu', 'tanh').")
    return tuple(map(search_of, parts))


def _setting(kind: str, key: str, value: Any) -> Any:
    """A setting that can be stored: a domain, a plain value, or a list of plain values."""
    if isinstance(value, Choice) and any(b is not None for b in value.branches):
        raise SpaceError(
            f"A setting must not open further parameters; got '{key}' of Module('{kind}'). Use Or for alternatives."
        )
    if isinstance(value, DOMAINS):
        return value
    return [plain(v) for v in value] if isinstance(value, list | tuple) else plain(value)
