"""The variable-length genetic algorithm: what a length is, and how configurations grow."""

from __future__ import annotations

import numpy as np
import pytest

from tunewright.core.algorithm import generator
from tunewright.core.constraints import Range
from tunewright.core.domains import Choice, Float, Int
from tunewright.core.events import Ended, Started
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.samplers.vlga import Vlga, length_columns, shortened

LAYERS = Space(
    {"layers": Int(1, 8), **{f"w{i}": Float(0, 1) for i in range(1, 9)}, "x": Float(0, 1)},
    when={f"w{i}": {"layers": Range(i, None)} for i in range(2, 9)},
)


def played(vlga, space, loss, trials, workers=1):
    problem = Problem(space)
    state, configs, running = vlga.init(problem), [], []
    while len(configs) < trials:
        for action in vlga.ask(state, workers - len(running), generator(0, len(configs))):
            running.append(len(configs))
            state = vlga.tell(state, [Started(len(configs), action.config)])
            configs.append(action.config)
        number = running.pop(0)
        value = loss(configs[number])
        end = Ended(number, 0, "failed") if value is None else Ended(number, 0, "completed", {"loss": value})
        state = vlga.tell(state, [end])
    return state, configs


def test_a_length_is_an_ordered_number_that_others_depend_on():
    assert length_columns(LAYERS).tolist() == [0]
    tree = Space(m=Choice({"deep": {"k": Float(0, 1)}, "flat": None}), n=Int(0, 3))
    assert length_columns(tree).tolist() == []


def test_shortened_keeps_a_share_of_the_levels_and_at_least_one():
    row = LAYERS.encode({"layers": 8, **{f"w{i}": 0.5 for i in range(1, 9)}, "x": 0.5})
    lengths, levels = length_columns(LAYERS), LAYERS.layout.levels
    found = [
        LAYERS.decode(LAYERS.snap(shortened(row, lengths, levels, share)[None])[0])["layers"]
        for share in (0.01, 0.25, 0.5, 0.7, 1.0)
    ]
    assert found == [1, 2, 4, 6, 8]
    short = shortened(LAYERS.encode({"layers": 1, "w1": 0.5, "x": 0.5}), lengths, levels, 1.0)
    assert short[0] == pytest.approx(1 / 16)


def test_configurations_grow_phase_by_phase():
    vlga = Vlga(size=6, phases=4, patience=10)
    _, configs = played(vlga, LAYERS, lambda c: -float(c["layers"]), 60)
    longest = [max(c["layers"] for c in configs[a : a + 10]) for a in (0, 10, 20, 30)]
    assert longest == [2, 4, 6, 8]


def test_grown_configurations_keep_the_genes_of_the_best():
    vlga = Vlga(size=4, phases=2, patience=8)
    state = vlga.init(Problem(LAYERS))
    for i in range(8):
        config = {"layers": 4, **{f"w{j}": 0.2 for j in range(1, 5)}, "x": 0.7}
        state = vlga.tell(state, [Started(i, config), Ended(i, 0, "completed", {"loss": float(i)})])
    long = [
        a.config for s in range(40) for a in vlga.ask(state, 1, generator(s, 0)) if a.config["layers"] == 8
    ]
    assert len(long) >= 10
    kept = [np.mean([abs(c[f"w{j}"] - 0.2) < 1e-9 for j in range(1, 5)]) for c in long]
    assert np.mean(kept) > 0.7
    assert len({round(c["w8"], 6) for c in long}) == len(long)


def test_one_phase_is_a_fixed_length_from_the_start():
    _, configs = played(Vlga(phases=1), LAYERS, lambda c: -float(c["layers"]), 15)
    assert max(c["layers"] for c in configs) == 8


def test_members_are_the_best_that_ended():
    state, configs = played(Vlga(size=3), LAYERS, lambda c: None if c["x"] > 0.8 else c["x"], 25, workers=4)
    done = [i for i in sorted(state.population.counted) if configs[i]["x"] <= 0.8]
    assert state.members == sorted(done, key=lambda i: configs[i]["x"])[:3]


def test_settings_are_refused():
    for bad in ({"size": 1}, {"phases": 0}, {"patience": 0}):
        with pytest.raises(ConfigError, match="Vlga needs"):
            Vlga(**bad)
