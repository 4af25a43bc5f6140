"""Earlier studies, as what a sampler may learn from them: configurations and losses.

*Use when* a method starts from the results of related tasks. *Do not use when* the earlier results belong to the
same task and space: open that study again instead.

A source is plain data, so that it can be kept in the log with the settings of a method. Its space may differ from the
new one: numbers go to the nearest bound, parameters that it did not have stay unknown, and configurations with an
option that no longer exists are left out.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.models import gp

FloatArray = NDArray[np.float64]
MOST = 100


@dataclass(frozen=True, slots=True)
class Source:
    """Results of an earlier study.

    Args:
        name: Shown in messages.
        configs: Configurations by parameter name, ``n`` of them.
        losses: One loss each, finite, lower is better, any unit.

    Raises:
        ConfigError: If the numbers do not match or a loss is not finite.
    """

    name: str
    configs: tuple[dict[str, Any], ...]
    losses: tuple[float, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "configs", tuple(dict(c) for c in self.configs))
        object.__setattr__(self, "losses", tuple(float(v) for v in self.losses))
        if len(self.configs) != len(self.losses) or not all(map(math.isfinite, self.losses)):
            raise ConfigError(
                f"A source needs one finite loss per configuration; '{self.name}' has {len(self.configs)} "
                f"configurations and {sum(map(math.isfinite, self.losses))} finite losses. Leave out failed trials."
            )

    def to_dict(self) -> dict[str, Any]:
        """The JSON form."""
        return {"name": self.name, "configs": list(self.configs), "losses": list(self.losses)}


def sources_of(method: str, given: Any) -> tuple[Source, ...]:
    """The sources that a setting holds, as objects or in their JSON form.

    Args:
        method: Name of the method, for messages.
        given: A sequence of ``Source`` objects or of their JSON forms.

    Raises:
        ConfigError: If it is something else.
    """
    wrong = ConfigError(
        f"{method} needs sources with a name, configs and losses; got {given!r:.80}. Make them with transfer.sources."
    )
    if isinstance(given, str | Mapping) or not isinstance(given, Iterable):
        raise wrong
    found = []
    for entry in given:
        if isinstance(entry, Source):
            found.append(entry)
            continue
        if not isinstance(entry, Mapping) or set(entry) != {"name", "configs", "losses"}:
            raise wrong
        try:
            made = Source(str(entry["name"]), tuple(entry["configs"]), tuple(map(float, entry["losses"])))
        except TypeError:
            raise wrong from None
        found.append(made)
    return tuple(found)


def table(source: Source, space: Space) -> tuple[FloatArray, FloatArray]:
    """A source in the codes of a space.

    Args:
        source: The earlier results.
        space: The new space.

    Returns:
        Codes ``(n, d)``, NaN where inactive or unknown, and losses ``(n,)``; configurations that share nothing with the
        space, or have an option that it lacks, are left out.
    """
    rows, kept = [], []
    for config, loss in zip(source.configs, source.losses, strict=True):
        row = space.project(config)
        if row is not None and not np.isnan(row).all():
            rows.append(row)
            kept.append(loss)
    return np.array(rows).reshape(-1, space.d), np.array(kept)


def tables(sources: Sequence[Source], space: Space) -> list[tuple[FloatArray, FloatArray]]:
    """The sources in the codes of a space; those with fewer than two usable configurations are left out."""
    found = [table(s, space) for s in sources]
    return [(x, y) for x, y in found if len(y) >= 2]


def complete(rows: FloatArray, space: Space, rng: np.random.Generator) -> FloatArray:
    """Legal rows from rows of a source, shape ``(n, d)``: unknown parameters are drawn from the prior."""
    draws = space.sample(rng, max(1, len(rows)))[: len(rows)]
    filled = np.where(np.isnan(rows), draws, rows)
    out: FloatArray = space.repair(filled, rng)
    return out


def thinned(x: FloatArray, losses: FloatArray, most: int = MOST) -> tuple[FloatArray, FloatArray]:
    """At most ``most`` rows: the better half of them the best, the others evenly over the remaining ranks."""
    n = len(losses)
    if n <= most:
        return x, losses
    order = np.argsort(losses, kind="stable")
    best = most // 2
    spread = best + (np.arange(most - best) * (n - best)) // (most - best)
    keep = np.sort(np.concatenate([order[:best], order[spread]]))
    return x[keep], losses[keep]


def fitted(x: FloatArray, losses: FloatArray, space: Space) -> gp.GP:
    """A Gaussian process of one source, on at most ``MOST`` of its rows; its losses are warped to unit spread.

    Args:
        x: Codes, shape ``(n, d)``.
        losses: Losses, shape ``(n,)``.
        space: The space that the codes belong to.
    """
    x, losses = thinned(x, losses)
    layout = space.layout
    return _fitted(
        x.tobytes(), losses.tobytes(), space.d, layout.levels.tobytes(), layout.categorical.tobytes()
    )


@functools.lru_cache(maxsize=128)
def _fitted(x: bytes, losses: bytes, d: int, levels: bytes, categorical: bytes) -> gp.GP:
    # A fact about immutable data, asked for again by every study that learns from it.
    return gp.fit(
        np.frombuffer(x).reshape(-1, d),
        np.frombuffer(losses),
        np.frombuffer(levels, dtype=np.int64),
        np.frombuffer(categorical, dtype=np.bool_),
    )
