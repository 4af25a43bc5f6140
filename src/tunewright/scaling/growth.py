"""What grows: a model beside its base, weight by weight, and the role that this gives each weight."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import get_args

from tunewright.errors import ConfigError
from tunewright.scaling.rules.base import Role, Tensor
from tunewright.scaling.tensors import Shapes, Weight, default_std, slack

_LISTED = 8
_UNIFORM = frozenset({"linear", "projection", "conv", "transposed", "recurrent", "attention"})


@dataclass(frozen=True, slots=True)
class Grown:
    """A model beside its base.

    Attributes:
        tensors: What rules are asked about, by name.
        aliases: For tied weights: the same tensor in the role that it has under each other name.
        depths: For every residual branch: blocks over those of the base, and blocks.
        heads: For every attention module with queries: growth of the size of its heads, 0 if unknown.
        notes: What the user should know.
    """

    tensors: dict[str, Tensor]
    aliases: dict[str, dict[str, Tensor]]
    depths: dict[str, tuple[float, int]]
    heads: dict[str, float]
    notes: tuple[str, ...]


class _Stacks:
    """Lists of equal blocks, and where each name of one model is found in another with shorter lists."""

    def __init__(self, model: Shapes, base: Shapes) -> None:
        self.model, self.base = _lists(model), _lists(base)
        self.grown = {
            prefix: (len(found), len(self.base[prefix]))
            for prefix, found in self.model.items()
            if prefix in self.base and len(self.base[prefix]) != len(found)
        }
        for prefix in self.grown:
            for shapes in (model, base):
                _check_equal_blocks(prefix, shapes)

    def counterpart(self, name: str) -> str:
        """Where it is in the base."""
        out: list[str] = []
        for part in name.split("."):
            here = ".".join(out)
            if part.isdigit() and here in self.base and int(part) not in self.base[here]:
                indices = sorted(self.base[here])
                part = str(indices[int(part) % len(indices)])
            out.append(part)
        return ".".join(out)

    def depth(self, name: str) -> tuple[float, int]:
        """Growth of the lists that it is in, and their blocks."""
        growth, blocks = 1.0, 1
        for prefix, (now, was) in self.grown.items():
            if name.startswith(prefix + ".") or (not prefix and name.partition(".")[0].isdigit()):
                growth, blocks = growth * now / was, blocks * now
        return growth, blocks


def _lists(shapes: Shapes) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for name in shapes.weights:
        parts = name.split(".")
        for i, part in enumerate(parts):
            if part.isdigit():
                found.setdefault(".".join(parts[:i]), set()).add(int(part))
    return found


def _check_equal_blocks(prefix: str, shapes: Shapes) -> None:
    blocks: dict[str, dict[str, tuple[int, ...]]] = {}
    start = len(prefix) + 1 if prefix else 0
    for name, weight in shapes.weights.items():
        if name[: max(start - 1, 0)] == prefix and name[start : start + 1].isdigit():
            index, _, rest = name[start:].partition(".")
            blocks.setdefault(index, {})[rest] = weight.shape
    if len({tuple(sorted(b.items())) for b in blocks.values()}) > 1:
        raise ConfigError(
            f"Depth may grow only by equal blocks; those of {prefix or 'the model'!r} have different weights. Keep the first and "
            "the last layer outside the list of blocks."
        )


def compare(
    model: Shapes, base: Shapes, delta: Shapes | None = None, roles: Mapping[str, Role] | None = None
) -> Grown:
    """Gives every weight of a model its role by what grows.

    Args:
        model: The model.
        base: The same at its base size.
        delta: The same at another size, where the model may be as large as its base or some dimension of it happens not to grow.
        roles: For names or patterns of names: the role, where it cannot be told.

    Raises:
        ConfigError: If the models do not differ, do not fit each other, or a role cannot be told.
    """
    asked = dict(roles or {})
    _check_roles(asked, model)
    stacks = _Stacks(model, base)
    beside = None if delta is None else _Stacks(model, delta)
    _check_names(model, base, stacks)
    tensors: dict[str, Tensor] = {}
    aliases: dict[str, dict[str, Tensor]] = {}
    lost: list[str] = []
    notes: list[str] = []
    grows = False
    for name, weight in model.weights.items():
        was = base.weights[stacks.counterpart(name)]
        other = None
        if delta is not None and beside is not None:
            other = delta.weights.get(beside.counterpart(name))
        growing = _growing(name, weight, was, other)
        grows = grows or any(growing)
        role = _asked(name, asked) or _role(weight.owner, weight, growing)
        if role is None:
            lost.append(f"{name} {list(weight.shape)}")
            continue
        depth, blocks = stacks.depth(name)
        tensor = _tensor(name, weight, was, role, weight.owner)
        inside = [b for b, owner in model.branches.items() if not owner or name.startswith(owner + ".")]
        blocks = max(blocks, len(model.branches) if inside else 1)
        tensors[name] = replace(tensor, in_branch=bool(inside), depth=depth, blocks=blocks)
        aliases[name] = _aliases(name, weight, was, growing, asked)
        notes.extend(_remarks(name, weight, role))
    if lost:
        raise ConfigError(_unclassified(lost))
    if not grows and not stacks.grown:
        raise ConfigError(
            "The base must be smaller (or larger) than the model; both have the same shapes, so nothing says what grows. Pass "
            "delta, the same model at any other size."
        )
    depths = {b: stacks.depth(owner + ".") for b, owner in model.branches.items()}
    heads = _heads(model, base, stacks)
    return Grown(tensors, {k: v for k, v in aliases.items() if v}, depths, heads, tuple(notes))


def _check_roles(asked: Mapping[str, Role], model: Shapes) -> None:
    for pattern, role in asked.items():
        if role not in get_args(Role):
            raise ConfigError(
                f"A role must be one of {', '.join(get_args(Role))}; got {role!r} for {pattern!r}."
            )
        if not any(fnmatch.fnmatchcase(name, pattern) for name in model.weights):
            raise ConfigError(f"Every role must be that of a parameter; {pattern!r} matches none.")


def _asked(name: str, roles: Mapping[str, Role]) -> Role | None:
    return next((role for pattern, role in roles.items() if fnmatch.fnmatchcase(name, pattern)), None)


def _check_names(model: Shapes, base: Shapes, stacks: _Stacks) -> None:
    missing = [n for n in model.weights if stacks.counterpart(n) not in base.weights]
    counterparts = {stacks.counterpart(n) for n in model.weights}
    missing += [n for n in base.weights if n not in counterparts]
    if missing:
        raise ConfigError(
            "Model and base may differ only in sizes and in the number of equal blocks; only one of them has "
            f"{_few(missing)}. Build both with the same function."
        )


def _growing(name: str, weight: Weight, was: Weight, other: Weight | None) -> tuple[bool, ...]:
    if len(weight.shape) != len(was.shape) or weight.owner != was.owner:
        raise ConfigError(
            f"Model and base may differ only in sizes; {name} is a {weight.owner} weight of shape {list(weight.shape)} here and a "
            f"{was.owner} weight of shape {list(was.shape)} there. Build both with the same function."
        )
    now = tuple(a != b for a, b in zip(weight.shape, was.shape, strict=True))
    if other is None:
        return now
    by_delta = tuple(a != b for a, b in zip(other.shape, was.shape, strict=True))
    if any(n and not d for n, d in zip(now, by_delta, strict=True)):
        raise ConfigError(
            f"delta must differ from the base in every dimension that grows; {name} grows from {list(was.shape)} to "
            f"{list(weight.shape)} and is {list(other.shape)} in delta. Change the same sizes in delta."
        )
    return by_delta


def _sides(owner: str, weight: Weight) -> tuple[int, int]:
    """Which dimension is summed over and which is put out."""
    return (0, 1) if owner in ("embedding", "transposed") else (1, 0)


def _role(owner: str, weight: Weight, growing: tuple[bool, ...]) -> Role | None:
    if not any(growing):
        return "scalar"
    if len(weight.shape) == 1:
        return "vector"
    if (
        owner == "attention" and len(weight.shape) == 3
    ):  # bias_k, bias_v: vectors with two dimensions of length 1
        return "vector"
    if owner == "other":
        return _role_of_other(weight, growing)
    into, out = _sides(owner, weight)
    if any(g for i, g in enumerate(growing) if i not in (into, out)):
        return None
    if growing[into] and growing[out]:
        return "hidden"
    return "output" if growing[into] else "input"


def _role_of_other(weight: Weight, growing: tuple[bool, ...]) -> Role | None:
    """A tensor of a module that is not known: told only where every reading of its dimensions comes to the same."""
    if len(weight.shape) == 2 and all(growing):
        return "hidden"
    if (
        weight.shape[0] == 1 and growing[-1] and sum(growing) == 1
    ):  # added to every example: a token, or places
        return "vector" if math.prod(weight.shape) == weight.shape[-1] else "input"
    return None


def _tensor(name: str, weight: Weight, was: Weight, role: Role, owner: str) -> Tensor:
    if len(weight.shape) < 2 or role in ("vector", "scalar") or (owner == "other" and len(weight.shape) != 2):
        fans = (1, math.prod(weight.shape[-1:]), 1.0, math.prod(weight.shape) / math.prod(was.shape))
        if role == "output":
            fans = (fans[1], 1, fans[3], 1.0)
        elif role == "hidden":
            fans = (fans[1], fans[1], fans[3] ** 0.5, fans[3] ** 0.5)
    else:
        into, out = _sides(owner, weight)
        kernel = math.prod(weight.shape[2:])
        fan_in = 1 if owner == "embedding" else weight.shape[into] * kernel
        fans = (
            fan_in,
            weight.shape[out] * kernel,
            weight.shape[into] / was.shape[into],
            weight.shape[out] / was.shape[out],
        )
    if role == "input":
        fans = (fans[0], fans[1], 1.0, fans[3])
    base = _std(was, name)
    uniform = owner in _UNIFORM and base is not None and base == default_std(was, name)
    own = base if weight.std is None and not uniform else _std(weight, name)
    return Tensor(
        name,
        weight.shape,
        role,
        owner,
        *fans,
        base,
        own,
        uniform=uniform,
        constant=_constant(weight, was, name),
    )


def _constant(weight: Weight, was: Weight, name: str) -> float:
    """What it starts as where all its values are the same; a model without values starts as its base does."""
    for known in (weight.constant, was.constant):
        if known is not None:
            return known
    return 1.0 if weight.owner == "norm" and name.endswith("weight") else 0.0


def _std(weight: Weight, name: str) -> float | None:
    """That of PyTorch's own first values where these are as those, else what is found."""
    known = default_std(weight, name)
    if weight.std is None or weight.constant is not None:
        return known if weight.constant is None else 0.0
    if known and abs(weight.std / known - 1) <= slack(math.prod(weight.shape)):
        return known
    return weight.std


def _aliases(
    name: str, weight: Weight, was: Weight, growing: tuple[bool, ...], asked: Mapping[str, Role]
) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    for other, owner in zip(weight.tied, weight.tied_owners, strict=True):
        role = _asked(other, asked) or _role(owner, weight, growing)
        if role is not None:
            out[other] = _tensor(other, weight, was, role, owner)
    return out


def _remarks(name: str, weight: Weight, role: Role) -> list[str]:
    if weight.frozen:
        return [f"{name} is frozen: it keeps its values and gets no rate."]
    if weight.groups > 1 and role == "input":
        return [
            f"{name}: a convolution in {weight.groups} groups whose fan-in does not grow; it has the role of an input."
        ]
    return []


def _heads(model: Shapes, base: Shapes, stacks: _Stacks) -> dict[str, float]:
    out: dict[str, float] = {}
    for name, size in model.heads.items():
        was = base.heads.get(stacks.counterpart(name), 0)
        out[name] = size / was if size and was else 0.0
    return out


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _unclassified(lost: list[str]) -> str:
    return (
        f"Every tensor needs a role; these {len(lost)} belong to no known kind of module, so their dimensions cannot be told "
        f"apart: {'; '.join(lost)}. Name them, as roles={{'{lost[0].split()[0]}': 'input'}} (input: only what it puts out "
        "grows; output: only what it sums over; hidden: both; vector)."
    )
