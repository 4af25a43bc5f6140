"""What grows: a model beside its base, weight by weight, and the role that this gives each weight."""

from __future__ import annotations

import difflib
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
        kept: Tensors whose first values are no noise, and so are left as the model sets them.
    """

    tensors: dict[str, Tensor]
    aliases: dict[str, dict[str, Tensor]]
    depths: dict[str, tuple[float, int]]
    heads: dict[str, float]
    notes: tuple[str, ...]
    kept: frozenset[str] = frozenset()


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
    lost: dict[str, Weight] = {}
    notes: list[str] = []
    kept: set[str] = set()
    grows = False
    for name, weight in model.weights.items():
        was = base.weights[stacks.counterpart(name)]
        weight = _known(name, weight, was)
        other = weight
        if delta is not None and beside is not None:
            other = delta.weights.get(beside.counterpart(name), weight)
        growing = _growing(name, weight, was, other)
        grows = grows or any(growing)
        role = _asked(name, asked) or _role(weight.owner, was, other, growing)
        aliases[name] = _aliases(weight, was, other, growing, asked)
        missing = [n for n in weight.tied if n not in aliases[name]]
        if role is None or missing:
            lost.update(dict.fromkeys([name] if role is None else missing, weight))
            continue
        depth, blocks = stacks.depth(name)
        tensor = _tensor(name, weight, was, role, weight.owner)
        inside = [b for b, owner in model.branches.items() if not owner or name.startswith(owner + ".")]
        blocks = max(blocks, len(model.branches) if inside else 1)
        tensors[name] = replace(tensor, in_branch=bool(inside), depth=depth, blocks=blocks)
        if (was if weight.std is None else weight).patterned:
            kept.add(name)
        notes.extend(_remarks(weight, tensor))
    if lost:
        raise ConfigError(_unclassified(lost))
    if not grows and not stacks.grown:
        raise ConfigError(
            "The base must be smaller (or larger) than the model; both have the same shapes, so nothing says what grows. Pass "
            "delta, the same model at any other size."
        )
    notes.extend(_of_base(base))
    depths = {b: stacks.depth(owner + ".") for b, owner in model.branches.items()}
    heads = _heads(model, base, stacks)
    found = {k: v for k, v in aliases.items() if v}
    return Grown(tensors, found, depths, heads, tuple(notes), frozenset(kept))


def _known(name: str, weight: Weight, was: Weight) -> Weight:
    """The weight without values that say nothing.

    Raises:
        ConfigError: If those of the base say nothing.
    """
    if was.std is not None and not math.isfinite(was.std):
        raise ConfigError(f"First values of the base must be finite; those of {name} are not. Build it anew.")
    if weight.std is not None and not math.isfinite(weight.std):  # of memory that was never written
        return replace(weight, std=None)
    return weight


def _of_base(base: Shapes) -> list[str]:
    if all(w.std is not None for w in base.weights.values()):
        return []
    return [
        "The base has no values (it is on the meta device): first values are taken to be PyTorch's own. Build it with values if the "
        "model sets its own."
    ]


def _check_roles(asked: Mapping[str, Role], model: Shapes) -> None:
    for pattern, role in asked.items():
        if role not in get_args(Role):
            raise ConfigError(
                f"A role must be one of {', '.join(get_args(Role))}; got {role!r} for {pattern!r}."
            )
        names = [n for name, weight in model.weights.items() for n in (name, *weight.tied)]
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            close = difflib.get_close_matches(pattern, names, 1)
            hint = f"Did you mean {close[0]!r}?" if close else "Correct the name."
            raise ConfigError(f"Every role must be that of a parameter; {pattern!r} matches none. {hint}")


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


def _growing(name: str, weight: Weight, was: Weight, other: Weight) -> tuple[bool, ...]:
    if len(weight.shape) != len(was.shape) or weight.owner != was.owner:
        raise ConfigError(
            f"Model and base may differ only in sizes; {name} is a {weight.owner} weight of shape {list(weight.shape)} here and a "
            f"{was.owner} weight of shape {list(was.shape)} there. Build both with the same function."
        )
    now = tuple(a != b for a, b in zip(weight.shape, was.shape, strict=True))
    by_delta = tuple(a != b for a, b in zip(other.shape, was.shape, strict=True))
    if any(n and not d for n, d in zip(now, by_delta, strict=True)):
        raise ConfigError(
            f"delta must differ from the base in every dimension that grows; {name} grows from {list(was.shape)} to "
            f"{list(weight.shape)} and is {list(other.shape)} in delta. Change the same sizes in delta."
        )
    return by_delta


def _sums(owner: str, weight: Weight) -> tuple[int, int]:
    """How many inputs a sum has and how many sums there are, kernels aside."""
    shape = weight.shape
    if owner == "embedding":  # picks a row
        return 1, shape[1]
    if owner == "transposed":
        return shape[0] // weight.groups, shape[1] * weight.groups
    if owner == "bilinear":
        return shape[1] * shape[2], shape[0]
    if owner == "other":
        return shape[-1], shape[-2]
    return shape[1], shape[0]


def _role(owner: str, was: Weight, other: Weight, growing: tuple[bool, ...]) -> Role | None:
    if not any(growing):
        return "scalar"
    if was.reparametrized:
        return None
    if len(was.shape) == 1 or owner == "norm":
        return "vector"
    if owner == "attention" and len(was.shape) == 3:
        return "vector"  # bias_k, bias_v: with two dimensions of length 1
    if owner == "other":
        return _role_of_other(was, growing)
    if owner in ("conv", "transposed") and any(growing[2:]):  # its kernel
        return None
    into, out = (a != b for a, b in zip(_sums(owner, was), _sums(owner, other), strict=True))
    if into:
        return "hidden" if out else "output"
    return "input" if out else "scalar"


def _role_of_other(was: Weight, growing: tuple[bool, ...]) -> Role | None:
    """A tensor of a module that is not known: told only where every reading of its dimensions comes to the same."""
    if len(growing) in (2, 3) and growing[-2:] == (True, True) and not any(growing[:-2]):
        return "hidden"  # a matrix, or one for each expert
    if was.shape[0] == 1 and growing[-1] and sum(growing) == 1:  # added to every example: a token, or places
        return "vector" if math.prod(was.shape[:-1]) == 1 else "input"
    return None


def _tensor(name: str, weight: Weight, was: Weight, role: Role, owner: str) -> Tensor:
    base = _std(was, name)
    uniform = owner in _UNIFORM and base is not None and base == default_std(was, name)
    own = base if weight.std is None and not uniform else _std(weight, name)
    fans = _fans(weight, was, role, owner)
    constant = _constant(weight, was, name)
    return Tensor(name, weight.shape, role, owner, *fans, base, own, uniform=uniform, constant=constant)


def _fans(weight: Weight, was: Weight, role: Role, owner: str) -> tuple[int, int, float, float]:
    """Fan-in, fan-out, and how they have grown."""
    total = math.prod(weight.shape) / math.prod(was.shape)
    if role in ("vector", "scalar"):
        return 1, math.prod(weight.shape[-1:]), 1.0, total
    if len(weight.shape) < 2 and role == "hidden":
        raise ConfigError(
            f"A hidden tensor must have two sides that grow; got one of shape {list(weight.shape)}. Call it a vector."
        )
    if (owner == "other" or len(weight.shape) < 2) and role != "hidden":  # one side grows, whichever it is
        grown = math.prod(a for a, b in zip(weight.shape, was.shape, strict=True) if a != b)
        left = 1 if weight.shape[0] == 1 else math.prod(weight.shape) // grown  # what is added is in no sum
        return (left, grown, 1.0, total) if role == "input" else (grown, left, total, 1.0)
    (into, out), (had, gave) = _sums(owner, weight), _sums(owner, was)
    kernel = math.prod(weight.shape[2:]) if owner in ("conv", "transposed") else 1
    fan_in = into if owner == "embedding" else into * kernel
    return fan_in, out * kernel, 1.0 if role == "input" else into / had, out / gave


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
    weight: Weight, was: Weight, other: Weight, growing: tuple[bool, ...], asked: Mapping[str, Role]
) -> dict[str, Tensor]:
    out: dict[str, Tensor] = {}
    for name, owner in zip(weight.tied, weight.tied_owners, strict=True):
        role = _asked(name, asked) or _role(owner, was, other, growing)
        if role is not None:
            out[name] = _tensor(name, weight, was, role, owner)
    return out


def _remarks(weight: Weight, tensor: Tensor) -> list[str]:
    name, into, out = tensor.name, tensor.in_growth, tensor.out_growth
    if weight.frozen:
        return [f"{name} is frozen: it keeps its values and gets no rate."]
    if weight.groups > 1 and tensor.role == "input":
        return [
            f"{name}: a convolution in {weight.groups} groups whose fan-in does not grow; it has the role of an input."
        ]
    if tensor.owner == "other" and tensor.role == "hidden" and into != out:
        return [
            f"{name} {list(weight.shape)} is taken to have its outputs first and its inputs last, as in nn.Linear; the one grow by "
            f"{out:g}, the others by {into:g}. Keep it turned that way, or let both grow alike."
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


def _unclassified(lost: Mapping[str, Weight]) -> str:
    listed = "; ".join(f"{name} {list(w.shape)}" for name, w in lost.items())
    kinds = {"reparametrized" if w.reparametrized else w.owner for w in lost.values()}
    why = "belong to no known kind of module, so their dimensions cannot be told apart"
    if kinds == {"reparametrized"}:
        why = "are normalized before they are used (weight or spectral normalization), which no parametrization here is about"
    elif kinds <= {"conv", "transposed"}:
        why = "have kernels that grow"
    elif "reparametrized" in kinds:
        why += " or are normalized before they are used"
    first = next(iter(lost))
    return (
        f"Every tensor needs a role; these {len(lost)} {why}: {listed}. Name them, as roles={{'{first}': 'input'}} (input: only what it "
        "puts out grows; output: only what it sums over; hidden: both; vector; scalar: nothing)."
    )
