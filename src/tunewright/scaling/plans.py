"""A parametrization of one model: what every tensor starts as, learns at and is multiplied by, as data keyed by its name.

Example:
    Tune at width 64, train at width 256::

        from tunewright import scaling

        plan = scaling.plan("mup", model, base=small)
        plan.apply_(model, seed=0)
        optimizer = torch.optim.AdamW(plan.param_groups(lr=0.01, weight_decay=0.1))
"""

from __future__ import annotations

import hashlib
import math
import re
import warnings
import weakref
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import msgspec
import torch
from torch import nn

from tunewright.errors import ConfigError
from tunewright.scaling import multipliers
from tunewright.scaling.across import fitted
from tunewright.scaling.growth import Grown, compare
from tunewright.scaling.multipliers import Multiplier, Where
from tunewright.scaling.rules import rule as rule_named
from tunewright.scaling.rules.architecture import ArchitectureAware
from tunewright.scaling.rules.base import OPTIMIZERS, Optimizer, Role, Rule, Scales, Setting, Tensor, Tuned
from tunewright.scaling.tensors import PACKED, Shapes, modules_of, parameters_of, shapes

Form = Literal["multipliers", "folded"]
Sized = nn.Module | Shapes | Mapping[str, Any]
Start = Literal["normal", "uniform", "constant", "keep"]
_CARRIERS = frozenset({"linear", "conv", "embedding", "transposed", "bilinear"})
_CARRIED = re.compile(r"(?:^|\.)(?:weight|weight_v|weight_orig|parametrizations\.weight\.original1?)$")


class ScalingWarning(UserWarning):
    """A plan can be used, but not with what was asked of it; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a plan says of one tensor.

    Attributes:
        name: Of the parameter.
        shape: As the module has it.
        role: See ``rules.base.Tensor``.
        fan_in: Terms of the sums that it is in.
        fan_out: Its outputs.
        in_growth: Fan-in over that of the base.
        out_growth: Fan-out over that of the base.
        depth: Blocks over those of the base.
        start: How its first values are drawn; ``keep`` leaves the model's.
        std: Their standard deviation, 0 for constants.
        value: Their mean.
        lr: Factor on the learning rate.
        wd: Factor on the weight decay.
        eps: Factor on the optimizer's eps.
        multiplier: What the tensor is multiplied by in the forward pass, hooks on branches aside.
        frozen: Whether it is not trained.
        tied: Other names of the same tensor.
    """

    name: str
    shape: tuple[int, ...]
    role: Role
    fan_in: int
    fan_out: int
    in_growth: float
    out_growth: float
    depth: float
    start: Start
    std: float
    value: float = 0.0
    lr: float = 1.0
    wd: float = 1.0
    eps: float = 1.0
    multiplier: float = 1.0
    frozen: bool = False
    tied: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Plan:
    """A parametrization of one model; see ``plan``.

    Attributes:
        rule: Its name.
        optimizer: What the rates are for.
        form: Whether tensors are multiplied in the forward pass, or the same is had by other first values and rates.
        entries: By name of the parameter, sorted.
        multipliers: Factors in the forward pass, sorted.
        notes: What the user should know, a sentence each.
    """

    rule: str
    optimizer: Optimizer
    form: Form
    entries: dict[str, Entry]
    multipliers: tuple[Multiplier, ...]
    notes: tuple[str, ...] = ()
    _model: weakref.ref[nn.Module] | None = field(default=None, repr=False, compare=False)

    def apply_(self, model: nn.Module, seed: int = 0) -> nn.Module:
        """Draws first values and hangs the multipliers on; a model that is loaded from a checkpoint needs only ``attach_``."""
        self.init_(model, seed)
        return self.attach_(model)

    def init_(self, model: nn.Module, seed: int = 0) -> nn.Module:
        """Draws the first values of every tensor that is trained, each from a stream of its own name and the seed.

        Rows of embeddings that stand for padding stay zero.

        Raises:
            ConfigError: If the model is not the one that the plan was made for, has no values (meta device), or a tensor has been
                frozen since.
        """
        named = self._match(model)
        drawn = {n: e for n, e in self.entries.items() if not e.frozen and e.start != "keep"}
        for name in drawn:
            if named[name].device.type == "meta":
                raise ConfigError(
                    f"A model must have values to be initialised; {name} is on the meta device. Call model.to_empty(device=...)."
                )
            if not named[name].requires_grad:
                raise ConfigError(
                    f"What is not trained must be frozen when a plan is made; {name} has been frozen since, and drawing its first "
                    "values would overwrite it. Make the plan of the model as it is now, or freeze it afterwards."
                )
        with torch.no_grad():
            for name, entry in drawn.items():
                named[name].copy_(_drawn(entry, seed))
            for name, module in modules_of(model).items():
                if isinstance(module, nn.Embedding | nn.EmbeddingBag) and module.padding_idx is not None:
                    own = f"{name}.weight".lstrip(".")
                    if any(own in (n, *e.tied) for n, e in drawn.items()):
                        module.weight[module.padding_idx].zero_()
        return model

    def attach_(self, model: nn.Module) -> nn.Module:
        """Hangs the multipliers on, instead of any that are there; values stay as they are.

        Raises:
            ConfigError: If the model is not the one that the plan was made for.
        """
        self._match(model)
        multipliers.attach_(model, self.multipliers)
        return model

    def rates(self, lr: float) -> dict[str, float]:
        """The learning rate of every trained tensor, by name."""
        return {name: lr * e.lr for name, e in self.entries.items() if not e.frozen}

    def param_groups(
        self,
        lr: float,
        weight_decay: float = 0.0,
        *,
        model: nn.Module | None = None,
        eps: float | None = None,
    ) -> list[dict[str, Any]]:
        """Groups for an optimizer: tensors with the same rate, decay and eps share one.

        Args:
            lr: The base learning rate, what is tuned.
            weight_decay: The same of the decay, as the optimizer takes it.
            model: Whose parameters; by default of the model that the plan was made with. A copy or a compiled one is passed here.
            eps: The optimizer's at the base size; groups have one only where this is given. K-FAC and Shampoo need it, as it
                follows the size.

        Returns:
            Groups with ``params``, ``lr``, ``weight_decay``, their ``names``, and ``scale``, the factor on the rate.

        Raises:
            ConfigError: If a number is out of range, no model is there, or a tensor that was frozen when the plan was made is not.
        """
        for what, value in (("lr", lr), ("weight_decay", weight_decay), ("eps", eps)):
            if value is not None and not 0 <= value < math.inf:
                raise ConfigError(f"{what} must be a finite number of 0 or more; got {value:g}. Correct it.")
        owner = model if model is not None else (self._model() if self._model else None)
        if owner is None:
            raise ConfigError("param_groups needs the model of the plan; it is gone. Pass model=model.")
        for doubt in self._doubts(weight_decay, eps):
            warnings.warn(doubt, ScalingWarning, 2)
        named = self._match(owner)
        thawed = [n for n, e in self.entries.items() if e.frozen and named[n].requires_grad]
        if thawed:
            raise ConfigError(
                f"What is trained must be trainable when a plan is made; {thawed[0]} was frozen then and has no rate. Make the plan "
                "anew, now that it is trained."
            )
        groups: dict[tuple[float, float, float], dict[str, Any]] = {}
        for name, e in self.entries.items():
            if e.frozen:
                continue
            key = (e.lr, e.wd, e.eps)
            if key not in groups:
                groups[key] = {"params": [], "names": [], "lr": lr * e.lr, "scale": e.lr}
                groups[key]["weight_decay"] = weight_decay * e.wd
                if eps is not None:
                    groups[key]["eps"] = eps * e.eps
            groups[key]["params"].append(named[name])
            groups[key]["names"].append(name)
        return list(groups.values())

    def _doubts(self, weight_decay: float, eps: float | None) -> Iterator[str]:
        if eps is None and self.optimizer in ("kfac", "shampoo") and self.rule != "sp":
            yield (
                f"Under {self.rule} the eps of {self.optimizer} follows the size as the rate does, and these groups have none: pass "
                "eps=, the optimizer's at the base size (only K-FAC's relative damping needs none)."
            )
        if weight_decay and self.optimizer == "adam" and self.rule != "sp":
            yield (
                f"Adam adds its decay to the gradient and normalises both, so how much decays depends on the size of gradients: under "
                f"{self.rule} it is scaled only by how they begin, and a coordinate check does not show what is lost later. Use AdamW "
                "and plan(..., optimizer='adamw')."
            )

    def table(self) -> str:
        """The plan as text, a line per tensor."""
        rows = [("tensor", "role", "shape", "std", "rate", "decay", "times")]
        for e in self.entries.values():
            std = "kept" if e.frozen or e.start == "keep" else f"{e.std:.4g}" if e.std else f"= {e.value:g}"
            rate = "frozen" if e.frozen else f"x {e.lr:.4g}"
            rows.append(
                (
                    e.name,
                    e.role,
                    "x".join(map(str, e.shape)),
                    std,
                    rate,
                    f"x {e.wd:.4g}",
                    f"{e.multiplier:.4g}",
                )
            )
        widths = [max(len(r[i]) for r in rows) for i in range(len(rows[0]))]
        lines = ["  ".join(c.ljust(w) for c, w in zip(r, widths, strict=True)).rstrip() for r in rows]
        lines += [f"times {m.factor:.4g} at the {m.where} of {m.module}" for m in self.multipliers]
        return "\n".join([*lines, *(f"note: {n}" for n in self.notes)])

    def to_json(self) -> str:
        """As text, for a file."""
        data = {
            "rule": self.rule,
            "optimizer": self.optimizer,
            "form": self.form,
            "entries": self.entries,
            "multipliers": self.multipliers,
            "notes": self.notes,
        }
        return msgspec.json.format(msgspec.json.encode(data), indent=1).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Plan:
        """Reads what ``to_json`` gave; the model is then passed to ``param_groups``.

        Raises:
            ConfigError: If it is something else.
        """
        try:
            data = msgspec.json.decode(text)
            return cls(
                data["rule"],
                msgspec.convert(data["optimizer"], Optimizer),
                msgspec.convert(data["form"], Form),
                msgspec.convert(dict(sorted(data["entries"].items())), dict[str, Entry]),
                msgspec.convert(data["multipliers"], tuple[Multiplier, ...]),
                tuple(data["notes"]),
            )
        except (msgspec.MsgspecError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(
                f"A saved plan must be what Plan.to_json() gave; got something else ({error})."
            ) from None

    def _match(self, model: nn.Module) -> dict[str, nn.Parameter]:
        if not isinstance(model, nn.Module):
            raise ConfigError(
                f"A plan is applied to a torch.nn.Module; got {type(model).__name__}. Pass the model itself."
            )
        named = parameters_of(model)
        own = {id(named[n]): n for n in self.entries if n in named}
        wrong = [n for n, e in self.entries.items() if n not in named or tuple(named[n].shape) != e.shape]
        wrong += [n for n in self.entries if n in named and own[id(named[n])] != n]  # tied since
        wrong += [t for n, e in self.entries.items() for t in e.tied if named.get(t) is not named.get(n)]
        wrong += [n for n, p in named.items() if id(p) not in own]
        wrong = list(dict.fromkeys(wrong))
        if wrong:
            more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
            raise ConfigError(
                f"A plan fits only the model that it was made for; this one differs in {wrong[0]}{more}. Make a plan for this model."
            )
        return named


def plan(
    name: str | Rule,
    model: Sized,
    base: Sized,
    delta: Sized | None = None,
    *,
    optimizer: Optimizer = "adamw",
    roles: Mapping[str, Role] | None = None,
    branches: Mapping[str, str] | None = None,
    form: Form = "multipliers",
    tuned: Tuned | None = None,
) -> Plan:
    """Makes the plan of a model under a parametrization.

    Args:
        name: The parametrization: see ``scaling.RULES``; or a rule of your own.
        model: The model, or its saved shapes.
        base: The same model at the size where settings are tuned. At that size a relative rule changes nothing. With
            ``architecture-aware`` it may be another network.
        delta: The same at another size again; needed where model and base are equally large.
        optimizer: What it will be trained with.
        roles: Roles of tensors in modules that are not PyTorch's own, by name or pattern.
        branches: Residual branches that are not found by themselves: the module whose output is added to the stream, and the
            block that it belongs to.
        form: ``multipliers`` multiplies in the forward pass; ``folded`` has the same training by other first values and rates.
        tuned: Scale-free hyperparameters that were tuned beside the rate.

    Raises:
        ConfigError: If the rule, the optimizer or a role is unknown, or the models do not fit each other.
    """
    _check(optimizer, form)
    rule = rule_named(name) if isinstance(name, str) else name
    if optimizer not in rule.optimizers:
        raise ConfigError(
            f"{rule.name} has rates for {', '.join(sorted(rule.optimizers))}; got optimizer={optimizer!r}. Use one of them, or another rule."
        )
    if isinstance(rule, ArchitectureAware):
        target = _sized(model, branches, graph=rule.graph is None)
        rule, grown = fitted(rule, target, _sized(base, branches, graph=rule.base_graph is None))
    else:
        target = _sized(model, branches)
        grown = compare(
            target, _sized(base, branches), None if delta is None else _sized(delta, branches), roles
        )
    made = _Maker(rule, optimizer, form, tuned or Tuned(), target, grown)
    entries = {n: made.entry(t) for n, t in grown.tensors.items()}
    found = made.hung()
    reference = weakref.ref(model) if isinstance(model, nn.Module) else None
    return Plan(rule.name, optimizer, form, entries, found, (*grown.notes, *made.notes), reference)


def _check(optimizer: str, form: str) -> None:
    if optimizer not in OPTIMIZERS:
        raise ConfigError(f"optimizer must be one of {', '.join(OPTIMIZERS)}; got {optimizer!r}.")
    if form not in get_args(Form):
        raise ConfigError(f"form must be 'multipliers' or 'folded'; got {form!r}.")


def _sized(model: Sized, branches: Mapping[str, str] | None, *, graph: bool = False) -> Shapes:
    if isinstance(model, Mapping):
        model = Shapes.from_dict(model)
    found = model if isinstance(model, Shapes) else shapes(model, graph=graph)
    return replace(found, branches={**found.branches, **branches}) if branches else found


class _Maker:
    """Asks the rule about every tensor and hangs its multipliers where they can be carried."""

    def __init__(
        self, rule: Rule, optimizer: Optimizer, form: Form, tuned: Tuned, model: Shapes, grown: Grown
    ) -> None:
        self.rule, self.optimizer, self.form, self.tuned = rule, optimizer, form, tuned
        self.model, self.grown = model, grown
        self.notes: list[str] = []
        self.factors: dict[tuple[str, Where], float] = {}
        self.depth = max(t.depth for t in grown.tensors.values())
        self.lone = [n for n, t in grown.tensors.items() if t.depth != 1 and not t.in_branch]
        if self.depth != 1 and "depth" not in rule.transfers:
            self.notes.append(
                f"{rule.name} is about width; depth grows {self.depth:g} times here and the best rate may move. Take depth-mup."
            )
        elif self.lone:
            raise ConfigError(
                f"{rule.name} scales residual branches when depth grows; none was found around {self.lone[0]}. Name them: "
                "branches={'blocks.0.branch': 'blocks.0', ...}, the module whose output is added, and its block."
            )

    def setting(self, depth: float, blocks: int) -> Setting:
        return Setting(self.optimizer, depth, blocks, self.tuned)

    def entry(self, tensor: Tensor) -> Entry:
        """The line of one tensor; notes its multiplier."""
        weight = self.model.weights[tensor.name]
        setting = self.setting(tensor.depth, tensor.blocks)
        found = self.rule.scales(tensor, setting)
        if weight.frozen:
            found = Scales()
        self._alias(tensor, found, setting)
        multiplier = found.multiplier
        hung = weight.owner in _CARRIERS and bool(_CARRIED.search(tensor.name))
        if multiplier != 1 and (self.form == "folded" or not hung):
            if tensor.name in self.grown.kept or found.std is None or weight.reparametrized:
                raise ConfigError(
                    f"{tensor.name} stays as the model sets it, so its factor of {multiplier:g} cannot be put into its values; use "
                    "form='multipliers', or let the model multiply what it puts out."
                )
            if weight.tied:
                raise ConfigError(
                    f"{tensor.name} is tied to {weight.tied[0]}, so it cannot be multiplied in one place alone; use "
                    "form='multipliers', or untie them."
                )
            found, multiplier = _folded(found, self.optimizer), 1.0
        elif multiplier != 1:
            self._hang(weight.module, weight.owner, multiplier)
        start, std, value = self._start(tensor, found)
        return Entry(
            tensor.name,
            tensor.shape,
            tensor.role,
            tensor.fan_in,
            tensor.fan_out,
            tensor.in_growth,
            tensor.out_growth,
            tensor.depth,
            start,
            std,
            value,
            found.lr,
            found.wd,
            found.eps,
            multiplier,
            weight.frozen,
            weight.tied,
        )

    def _alias(self, tensor: Tensor, found: Scales, setting: Setting) -> None:
        """A tied tensor is multiplied in each of its places by what that place asks for; it has but one rate."""
        if self.model.weights[tensor.name].frozen:
            return
        for other, seen in self.grown.aliases.get(tensor.name, {}).items():
            there = self.rule.scales(seen, setting)
            for what in ("lr", "std", "eps"):
                here, elsewhere = getattr(found, what), getattr(there, what)
                if (
                    here is not None
                    and elsewhere is not None
                    and not math.isclose(here, elsewhere, rel_tol=0.25)
                ):
                    name = {"lr": "rates", "std": "deviations of first values", "eps": "factors of eps"}[what]
                    raise ConfigError(
                        f"{tensor.name} and {other} are one tensor and {self.rule.name} has two {name} for it ({here:g} and "
                        f"{elsewhere:g}). Untie them, or take a rule that has one, as mup with Adam."
                    )
            if there.multiplier == 1:
                continue
            if self.form == "folded":
                raise ConfigError(
                    f"{other} is tied to {tensor.name}, so its multiplier cannot be folded in; use form='multipliers'."
                )
            self._hang(other.rpartition(".")[0], seen.owner, there.multiplier)

    def _hang(self, module: str, owner: str, factor: float) -> None:
        where: Where = "output" if owner == "embedding" else "input"
        self.factors[module, where] = self.factors.get((module, where), 1.0) * factor

    def _start(self, tensor: Tensor, found: Scales) -> tuple[Start, float, float]:
        weight = self.model.weights[tensor.name]
        if weight.frozen or found.std is None:
            if found.std is None and not weight.frozen and tensor.role == "hidden":
                self.notes.append(
                    f"How {tensor.name} starts is not known, so its values are left as they are. Build the base with values."
                )
            return "keep", 0.0, 0.0
        if tensor.name in self.grown.kept:
            hidden = " and do not follow the size" if tensor.role in ("hidden", "output") else ""
            self.notes.append(
                f"{tensor.name}: its first values are no noise around zero, so they stay as the model sets them{hidden}."
            )
            return "keep", 0.0, 0.0
        if found.std == 0:
            return "constant", 0.0, tensor.constant
        return ("uniform" if tensor.uniform else "normal"), found.std, 0.0

    def hung(self) -> tuple[Multiplier, ...]:
        """Every multiplier: of tensors, branches and attention."""
        for branch, (depth, blocks) in self.grown.depths.items():
            factor = self.rule.branch(self.setting(depth, max(blocks, len(self.model.branches))))
            if factor != 1:
                self.factors[branch, "output"] = self.factors.get((branch, "output"), 1.0) * factor
        for module, growth in self.grown.heads.items():
            if not growth and self.rule.attention(4.0, self.setting(1.0, 1)) != 1:
                self.notes.append(
                    f"The size of the heads at {module} is not known; if it grows, attention is not rescaled. Give the module "
                    "an attribute num_heads."
                )
            factor = self.rule.attention(growth or 1.0, self.setting(1.0, 1))
            where = self._where_of_queries(module)
            if factor != 1:
                self.factors[module, where] = self.factors.get((module, where), 1.0) * factor
            if factor != 1 and where == "first third":
                self.notes.append(
                    f"{module} is taken to put out all queries, then all keys, then all values; if it puts them out head by head, "
                    "attention is not rescaled as it should be."
                )
        if self.model.unread and self.rule.attention(4.0, self.setting(1.0, 1)) != 1:
            self.notes.append(
                f"What makes the queries of {' and '.join(self.model.unread)} was not found; if the size of heads grows, attention is "
                "not rescaled. Call that layer q_proj, and give its module num_heads."
            )
        return tuple(Multiplier(m, w, f) for (m, w), f in sorted(self.factors.items()))

    def _where_of_queries(self, module: str) -> Where:
        if f"{module}.weight" not in self.model.weights:
            return "logits"
        return "first third" if module.rpartition(".")[2] in PACKED else "output"


def _folded(found: Scales, optimizer: str) -> Scales:
    """The same training without the multiplier (abc symmetry): what multiplies the tensor goes into its values and its rate."""
    c = found.multiplier
    std = None if found.std is None else found.std * c
    if optimizer == "adafactor":  # its steps are a share of the tensor's own size
        return replace(found, std=std, multiplier=1.0)
    if optimizer in ("sgd", "kfac"):
        return replace(found, std=std, lr=found.lr * c * c, wd=found.wd / (c * c), multiplier=1.0)
    # Adam's decay joins the gradient, that of the others the step
    wd = found.wd / (c * c if optimizer == "adam" else c)
    return replace(found, std=std, lr=found.lr * c, wd=wd, eps=found.eps / c, multiplier=1.0)


def _drawn(entry: Entry, seed: int) -> torch.Tensor:
    if entry.start == "constant":
        return torch.full(entry.shape, entry.value)
    digest = hashlib.blake2b(f"{seed} {entry.name}".encode(), digest_size=7).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest, "big"))
    if entry.start == "uniform":
        bound = entry.std * 3**0.5
        return torch.empty(entry.shape).uniform_(-bound, bound, generator=generator)
    return torch.empty(entry.shape).normal_(0.0, entry.std, generator=generator)
