"""What grows between the models that are tuned and the one that is meant, and how far a trial has come on the way.

A trial climbs: it trains the smallest proxy, then the next one anew with the same parameters, and so on. How far it has
come is one whole number, so that every sampler and scheduler works: a *point*. Between two sizes a trial begins anew;
within one it goes on from its checkpoint.

Points are spaced so that a scheduler's rungs fall on the ends of levels. With ``eta = 3`` and three levels, which are the
pairs of size and share of the training, those end at ``high / 9``, ``high / 3`` and ``high``. What training costs is
counted apart from points, in trainings of the target.

Example:
    >>> scale = Scale({"width": (64, 512)}, steps=1000)
    >>> [dict(s) for s in scale.proxies], scale.low, scale.high
    ([{'width': 64}, {'width': 128}], 1000, 3000)
    >>> scale.place(2000)
    Place(sizes={'width': 128}, step=500)
    >>> scale.words(2000)
    'width 128 · step 500'
    >>> round(scale.cost_of(3000), 3)
    0.078
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from tunewright.core.limits import checked_name
from tunewright.errors import ConfigError

Sizes = dict[str, int]
Cost = Callable[[Sizes], float] | Mapping[str, float] | Sequence[float] | None
_DEEP = ("depth", "layer", "block")
_AUTO = ("mup", "sp-layerwise", "sp")
_AUTO_DEEP = ("depth-mup", "mup", "sp")


class Place(NamedTuple):
    """A model and how far it is trained.

    Attributes:
        sizes: By name.
        step: Steps of it.
    """

    sizes: Sizes
    step: int


@dataclass(frozen=True, slots=True)
class Stage:
    """The training of one size, as a stretch of points.

    Attributes:
        sizes: By name.
        steps: Steps of its training.
        begin: Point at which it begins.
        points: Points at which its levels end, ascending.
        marks: Steps at which they end.
        rule: The parametrization, where the study has but one.
    """

    sizes: Sizes
    steps: int
    begin: int
    points: tuple[int, ...]
    marks: tuple[int, ...]
    rule: str = ""

    @property
    def end(self) -> int:
        """Point at which it ends."""
        return self.points[-1]

    @property
    def name(self) -> str:
        """Its sizes as people say them."""
        return named(self.sizes)

    def point(self, step: int) -> int:
        """Where a trial stands after some steps; each step has a point of its own."""
        low, first = self.begin, 0
        for high, last in zip(self.points, self.marks, strict=True):
            if step <= last:
                return low + (step - first) * (high - low) // (last - first)
            low, first = high, last
        return self.end

    def step(self, point: int) -> int:
        """Fewest steps after which a trial stands at a point or beyond."""
        done = self.done(point)
        return done if self.point(done) >= point else done + 1

    def done(self, point: int) -> int:
        """Steps that a trial has done which stands at a point, whole ones where it lies between two."""
        low, first = self.begin, 0
        for high, last in zip(self.points, self.marks, strict=True):
            if point <= high:
                steps = max(0, point - low) * (last - first) // (high - low)
                # The step after it may have been rounded down to this very point.
                return first + steps + (self.point(first + steps + 1) <= point < high)
            low, first = high, last
        return self.steps


def named(sizes: Sizes) -> str:
    """Sizes as people say them, such as ``width 64, depth 2``."""
    return ", ".join(f"{name} {value:,}" for name, value in sizes.items())


def is_depth(name: str) -> bool:
    """Whether a size of that name counts layers; any other is a width."""
    return any(word in name.lower() for word in _DEEP)


@dataclass(frozen=True)
class Scale:
    """Sizes that grow, the proxies that are tuned, and how cost grows.

    Args:
        sizes: Base and target of every size that grows, by name. Names with *depth*, *layer* or *block* count layers, all
            others are widths.
        proxies: Models to tune, smallest first; by default the base and twice the base. A size left out is the base's.
        steps: Steps of a training: one number for all models, or one for each proxy and the target's last. Tokens are
            steps times what a step takes in.
        cost: What a step costs, in any unit: a function of sizes; exponents of sizes by name; one number for each proxy
            and the target's last; by default 6 N D with N growing with the square of widths and with depths.
        rule: The parametrization that the training function applies, or several to choose from by evidence; ``"auto"`` is
            ``mup``, ``sp-layerwise`` and ``sp``, with a growing depth ``depth-mup``, ``mup`` and ``sp``.
        shares: Shares of a training at which trials can be compared, ascending to 1.
        eta: Factor between the ends of levels, the ``eta`` of a scheduler whose rungs are to fall there.

    Raises:
        ConfigError: If nothing grows, a proxy is larger than the target, or a number cannot be used.
    """

    sizes: Mapping[str, tuple[int, int]]
    proxies: Sequence[Mapping[str, int]] = ()
    steps: int | Sequence[int] = 1
    cost: Cost = None
    rule: str | Sequence[str] = "mup"
    shares: Sequence[float] = (1.0,)
    eta: int = 3

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "sizes", _sizes(self.sizes))
        put(self, "proxies", _proxies(self.proxies, self.sizes))
        put(self, "steps", _per_model("steps", self.steps, len(self.proxies) + 1))
        put(self, "cost", _weights(self.cost, self.sizes, self.proxies))
        put(self, "rule", _rules(self.rule, self.sizes))
        put(self, "shares", _shares(self.shares))
        if type(self.eta) is not int or self.eta < 2:
            raise ConfigError(f"Levels grow by a whole eta of 2 or more; got {self.eta!r}. Use 3.")
        put(self, "_stages", _stages(self))

    def __hash__(self) -> int:
        return hash((tuple(self.sizes.items()), self.high, self.rules))

    @property
    def rules(self) -> tuple[str, ...]:
        """The parametrizations to choose from."""
        return tuple(self.rule)

    @property
    def base(self) -> Sizes:
        """Sizes of the base."""
        return {name: pair[0] for name, pair in self.sizes.items()}

    @property
    def target(self) -> Sizes:
        """Sizes of the model that is meant."""
        return {name: pair[1] for name, pair in self.sizes.items()}

    @property
    def target_steps(self) -> int:
        """Steps of the target's training."""
        steps: Any = self.steps
        return int(steps[-1])

    @property
    def stages(self) -> tuple[Stage, ...]:
        """One per proxy, in the order of training."""
        found: tuple[Stage, ...] = self.__dict__["_stages"]
        return found

    @property
    def low(self) -> int:
        """Point at which the first level ends, the least that means something."""
        return self.stages[0].points[0]

    @property
    def high(self) -> int:
        """Point at which the largest proxy is trained."""
        return self.stages[-1].end

    def stage(self, point: int) -> Stage:
        """The stage whose training leads to a point."""
        return next((s for s in self.stages if point <= s.end), self.stages[-1])

    def place(self, point: int) -> Place:
        """The model that was trained last at a point, and its steps."""
        stage = self.stage(point)
        return Place(stage.sizes, stage.done(point))

    def growth(self, sizes: Sizes) -> float:
        """Doublings of all sizes together, from the base's."""
        return sum(math.log2(sizes[name] / low) for name, (low, _) in self.sizes.items())

    def words(self, point: int) -> str:
        """A point as people say it: the model that was trained last, and how far where that takes more than a step."""
        stage = self.stage(point)
        return stage.name + (f" · step {stage.done(point):,}" if stage.steps > 1 else "")

    def across(self, point: int) -> float:
        """Where a point stands on an axis on which proxy ``i`` has the place ``i``: steps take up most of a place, evenly."""
        stage = self.stage(point)
        share = stage.done(point) / stage.steps - 0.5 if stage.steps > 1 else 0.0
        return self.stages.index(stage) + 0.8 * share

    def legs(self, begin: int, until: int) -> Iterator[Leg]:
        """The trainings between two points, one per size."""
        return legs(self.stages, begin, until)

    def cost_of(self, point: int, begin: int = 0) -> float:
        """What training from one point to another costs, in trainings of the target."""
        weights: Any = self.cost
        whole = self.target_steps * weights[-1]
        return math.fsum(
            (leg.last - leg.first) * weights[self.stages.index(leg.stage)] / whole
            for leg in self.legs(begin, point)
        )

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {
            "sizes": {k: list(v) for k, v in self.sizes.items()},
            "proxies": [dict(p) for p in self.proxies],
            "steps": list(self.steps),  # type: ignore[arg-type]
            "cost": list(self.cost),  # type: ignore[arg-type]
            "rule": list(self.rule),
            "shares": list(self.shares),
            "eta": self.eta,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Scale:
        """Rebuilds it from its JSON form."""
        return cls(**data)


class Leg(NamedTuple):
    """A part of the training of one size.

    Attributes:
        stage: Of which.
        first: Steps done before.
        last: Steps done after.
    """

    stage: Stage
    first: int
    last: int


def legs(stages: Sequence[Stage], begin: int, until: int) -> Iterator[Leg]:
    """The trainings between two points of a scale with these stages, one per size."""
    for stage in stages:
        if stage.end > begin and stage.begin < until:
            first = stage.done(begin) if begin > stage.begin else 0
            yield Leg(stage, first, stage.step(min(until, stage.end)))


def _sizes(given: Any) -> dict[str, tuple[int, int]]:
    if not isinstance(given, Mapping) or not given:
        raise ConfigError(f"A scale needs sizes that grow; got {given!r:.80}. Write {{'width': (64, 512)}}.")
    found = {}
    for name, pair in given.items():
        checked_name("A size", name)
        if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(_whole(v) for v in pair):
            raise ConfigError(
                f"A size is given as its base and its target, whole numbers; '{name}' has {pair!r:.80}. "
                f"Write {{{name!r}: (64, 512)}}."
            )
        if pair[1] < pair[0]:
            raise ConfigError(
                f"A target must not be smaller than its base; '{name}' has {tuple(pair)}. Swap them."
            )
        found[name] = (pair[0], pair[1])
    if all(low == high for low, high in found.values()):
        raise ConfigError(f"At least one size must grow; got {found}. If none does, tune without a scale.")
    return found


def _whole(value: Any) -> bool:
    return type(value) is int and value >= 1


def _proxies(given: Any, sizes: Mapping[str, tuple[int, int]]) -> tuple[Sizes, ...]:
    base = {name: pair[0] for name, pair in sizes.items()}
    target = {name: pair[1] for name, pair in sizes.items()}
    if not given:
        given = [base, {name: min(2 * v, target[name]) for name, v in base.items()}]
    found: list[Sizes] = []
    for proxy in given:
        if not isinstance(proxy, Mapping) or not set(proxy) <= set(sizes):
            raise ConfigError(
                f"A proxy has sizes of the scale, {', '.join(sizes)}; got {proxy!r:.80}. Correct it."
            )
        full = {**base, **proxy}
        for name, value in full.items():
            if not _whole(value) or value > target[name]:
                raise ConfigError(
                    f"A proxy is no larger than the target; got {name}={value!r} with a target of {target[name]}. "
                    f"Choose smaller proxies."
                )
        if found and (full == found[-1] or any(full[n] < found[-1][n] for n in full)):
            raise ConfigError(f"Proxies grow from one to the next; got {full} after {found[-1]}. Sort them.")
        found.append(full)
    return tuple(found)


def _per_model(what: str, given: Any, count: int) -> tuple[int, ...]:
    values = (given,) * count if _whole(given) else tuple(given) if isinstance(given, list | tuple) else ()
    if len(values) != count or not all(_whole(v) for v in values):
        raise ConfigError(
            f"A scale needs whole {what}, one number or one for each of {count - 1} proxies and the target; "
            f"got {given!r:.80}. Correct them."
        )
    return values


def _weights(
    given: Any, sizes: Mapping[str, tuple[int, int]], proxies: Sequence[Mapping[str, int]]
) -> tuple[float, ...]:
    """Cost of a step of each proxy and of the target."""
    models: list[Sizes] = [*map(dict, proxies), {name: pair[1] for name, pair in sizes.items()}]
    if callable(given):
        raw = [given(dict(m)) for m in models]
    elif given is None or isinstance(given, Mapping):
        powers = {n: 1.0 if is_depth(n) else 2.0 for n in sizes} if given is None else dict(given)
        if not set(powers) <= set(sizes):
            raise ConfigError(
                f"Costs grow with sizes of the scale, {', '.join(sizes)}; got {powers}. Correct it."
            )
        raw = [math.prod((m[n] / models[-1][n]) ** p for n, p in powers.items()) for m in models]
    else:
        raw = list(given) if isinstance(given, list | tuple) else []
    good = [v for v in raw if isinstance(v, int | float) and not isinstance(v, bool) and 0 < v < math.inf]
    if len(good) != len(models) or len(raw) != len(models):
        raise ConfigError(
            f"Costs are positive numbers, one for each of {len(proxies)} proxies and the target; got {raw!r:.80}. "
            f"Pass a function of sizes, or exponents such as {{'width': 2}}."
        )
    return tuple(float(v) for v in good)


def _rules(given: Any, sizes: Mapping[str, tuple[int, int]]) -> tuple[str, ...]:
    if given == "auto":
        return _AUTO_DEEP if any(is_depth(n) and low < high for n, (low, high) in sizes.items()) else _AUTO
    found = (given,) if isinstance(given, str) else tuple(given)
    if not found or not all(isinstance(r, str) for r in found) or len(set(found)) < len(found):
        raise ConfigError(f"A scale needs the name of a rule, or several different ones; got {given!r:.80}.")
    for name in found:
        checked_name("A rule", name)
    return found


def _shares(given: Any) -> tuple[float, ...]:
    found = tuple(given) if isinstance(given, list | tuple) else ()
    good = all(isinstance(v, int | float) and 0 < v <= 1 for v in found)
    if not found or not good or list(found) != sorted(set(found)) or found[-1] != 1:
        raise ConfigError(f"Shares of a training ascend to 1; got {given!r:.80}. Write (0.25, 1.0).")
    return tuple(float(v) for v in found)


def _stages(scale: Scale) -> tuple[Stage, ...]:
    """Lays the levels out: each ends at ``eta`` times the point of the one before, and every step has a point."""
    eta, steps, shares = scale.eta, scale.steps, scale.shares
    marks = [sorted({max(1, math.ceil(s * n - 1e-9)) for s in shares}) for n in steps[:-1]]  # type: ignore[index]
    unit, level = 1, 0
    for own in marks:
        for before, here in zip([0, *own], own, strict=False):
            span = 1 if level == 0 else eta ** (level - 1) * (eta - 1)
            unit, level = max(unit, math.ceil((here - before) / span)), level + 1
    rule = scale.rule[0] if len(scale.rule) == 1 else ""
    stages: list[Stage] = []
    begin = level = 0
    for sizes, own in zip(scale.proxies, marks, strict=True):
        points = tuple(unit * eta ** (level + i) for i in range(len(own)))
        stages.append(Stage(dict(sizes), own[-1], begin, points, tuple(own), rule))
        begin, level = points[-1], level + len(own)
    return tuple(stages)
