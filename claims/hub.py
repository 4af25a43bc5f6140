"""A hub of small networks for handwritten digits, every one of which was trained: what the claim on weights is checked on.

``claims/data/digits_hub.py`` trained the networks and wrote the table.
"""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from claims.study import Floats
from tunewright.core.algorithm import Resume, Start, generator
from tunewright.core.domains import Choice, Order
from tunewright.core.events import Ended, Event, Paused, Reported, Resumed, Started
from tunewright.core.problem import Fidelity, Objective, Problem
from tunewright.core.space import Space

TABLE = Path(__file__).parent / "data" / "digits_hub.npz"
EPOCHS, WORST = 27, 10.0
RATES = tuple(float(f"{r:.2g}") for r in np.logspace(-2.5, 0.0, 6))
INITS, UNITS, DEPTHS = (0.2, 1.0, 3.0), (12, 48), (1, 2, 3)
SPACE = Space(
    lr=Order(RATES),
    momentum=Order([0.0, 0.9]),
    init=Order(INITS),
    decay=Order([0.0, 1e-3, 1e-2]),
    units=Order(UNITS),
    depth=Order(DEPTHS),
)
# The same networks, as the paper has them: of some parameters the search is told only which member of a hub they belong to.
MEMBERS = [
    {"init": init, "units": units, "depth": depth}
    for init, units, depth in itertools.product(INITS, UNITS, DEPTHS)
]
np.random.default_rng(0).shuffle(MEMBERS)
MODELS = Space(
    {"member": Choice(list(range(len(MEMBERS))))}
    | {name: SPACE.domains[name] for name in ("lr", "momentum", "decay")}
)
_STEPS = 255


def packed(losses: Floats, described: Floats) -> dict[str, Any]:
    """The table's arrays: losses to four digits, descriptions to 1/255 of their range.

    Args:
        losses: Shape ``(n, EPOCHS)``.
        described: Shape ``(n, EPOCHS, k)``.
    """
    low, high = described.min(axis=(0, 1)), described.max(axis=(0, 1))
    codes = np.rint((described - low) / np.maximum(high - low, 1e-12) * _STEPS).astype(np.uint8)
    return {
        "space": np.array(SPACE.digest),
        "losses": np.rint(losses * 1e4).astype(np.uint32),
        "codes": codes,
        "low": low,
        "high": high,
    }


class Hub(NamedTuple):
    """What every network of the hub reported, by configuration.

    Attributes:
        losses: Validation loss after each epoch, shape ``(n, EPOCHS)``.
        described: Description of the weights after each epoch, shape ``(n, EPOCHS, k)``.
        place: Row of a configuration, by its text.
    """

    losses: Floats
    described: Floats
    place: dict[str, int]


def key(config: Mapping[str, Any]) -> str:
    """A configuration of either space as text."""
    told = dict(config)
    if "member" in told:
        told |= MEMBERS[told.pop("member")]
    return json.dumps(told, sort_keys=True)


def hub_of(losses: Floats, described: Floats) -> Hub:
    """The hub of all configurations in their order."""
    return Hub(losses, described, {key(SPACE.decode(row)): i for i, row in enumerate(SPACE.grid(100_000))})


@functools.cache
def hub() -> Hub:
    """The trained networks."""
    table = np.load(TABLE)
    assert str(table["space"]) == SPACE.digest, "the search was changed after its networks were trained"
    described = table["low"] + table["codes"] * ((table["high"] - table["low"]) / _STEPS)
    return hub_of(table["losses"] / 1e4, described)


def searched(algorithm: Any, known: Hub, space: Space, seed: int, epochs: int) -> Floats:
    """Lowest loss after every epoch that one worker trains, shape ``(epochs,)``."""
    problem = Problem(space, (Objective("loss"),), Fidelity(EPOCHS), seed=seed)
    state, rows, done = algorithm.init(problem), list[int](), list[int]()
    best: list[float] = []
    decisions = 0
    while len(best) < epochs:
        actions = algorithm.ask(state, 1, generator(seed, decisions))
        decisions += max(1, len(actions))
        begun = [a for a in actions if isinstance(a, Start | Resume)]
        if not begun:
            break
        action = begun[0]
        until = action.until or EPOCHS
        if isinstance(action, Start):
            trial = len(rows)
            rows.append(known.place[key(action.config)])
            done.append(0)
            news: list[Event] = [Started(trial, action.config, until)]
        else:
            trial = action.trial
            news = [Resumed(trial, done[trial], until)]
        loss = 0.0
        for step in range(done[trial] + 1, until + 1):
            loss = float(known.losses[rows[trial], step - 1])
            described = known.described[rows[trial], step - 1].tolist()
            metrics = {"loss": loss} | {f"w/{i}": v for i, v in enumerate(described)}
            news.append(Reported(trial, 0, step, metrics))
            best.append(min(loss, best[-1]) if best else loss)
        done[trial] = until
        over = until >= EPOCHS
        news.append(Ended(trial, 0, "completed", {"loss": loss}, until) if over else Paused(trial, 0, until))
        state = algorithm.tell(state, news)
    best += [best[-1]] * (epochs - len(best))
    return np.array(best[:epochs])
