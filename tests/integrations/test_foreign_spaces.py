"""Spaces to and from ConfigSpace and Optuna: what can be expressed comes back, what cannot is named."""

from __future__ import annotations

import pytest

from tunewright.core.constraints import Linear, Range
from tunewright.core.domains import Bool, Choice, Float, Int, Order, Permutation, Subset
from tunewright.core.space import Space
from tunewright.errors import UnsupportedError
from tunewright.integrations.distributions import (
    space_from_configspace,
    space_from_optuna,
    space_to_configspace,
    space_to_optuna,
)

FULL = Space(
    {
        "lr": Float(1e-5, 1e-1, log=True, guess=1e-3, confidence=0.5),
        "momentum": Float(0.0, 1.0, guess=0.25, confidence=0.0),
        "layers": Int(1, 8, guess=2, confidence=0.0),
        "width": Int(16, 1024, log=True, guess=128, confidence=0.0),
        "optimizer": Choice(["adam", "sgd", "lion"], guess="sgd", confidence=0.4),
        "size": Order(["s", "m", "l"], guess="s", confidence=0.0),
        "augment": Bool(guess=True, confidence=0.0),
        "dampening": Float(0.0, 0.5, guess=0.25, confidence=0.0),
        "extra": Int(1, 64, guess=8, confidence=0.0),
        "tail": Float(0.0, 1.0, guess=0.5, confidence=0.0),
    },
    when={
        "dampening": {"optimizer": ["sgd"], "augment": [True]},
        "extra": {"layers": Range(low=3, high=6)},
        "tail": {"momentum": Range(high=0.5)},
    },
    forbidden=[{"optimizer": ("adam",), "size": ("s", "l")}],
    constraints=[Linear({"layers": 1.0, "extra": -1.0}, 0.0)],
)


class TestConfigSpace:
    @pytest.fixture(autouse=True)
    def library(self):
        self.cs = pytest.importorskip("ConfigSpace")

    def test_a_space_comes_back_as_it_went(self):
        with pytest.warns(UserWarning, match="'lr' has a normal prior"):
            back = space_from_configspace(space_to_configspace(FULL))
        # ConfigSpace keeps an order of its own.
        assert set(back.diff(FULL)) <= {"~ order of the parameters changed"}
        assert (back.domains, back.when, back.own) == (FULL.domains, FULL.when, FULL.own)

    def test_what_it_samples_is_legal_here_and_the_other_way(self):
        import numpy as np

        space = Space(
            {n: d for n, d in FULL.domains.items() if n != "extra"},
            when={"dampening": FULL.when["dampening"]},
        )
        cs = space_to_configspace(space, seed=1)
        for configuration in cs.sample_configuration(40):
            config = {k: v.item() if hasattr(v, "item") else v for k, v in dict(configuration).items()}
            assert space.check(config)
        for row in space.sample(np.random.default_rng(0), 40):
            self.cs.Configuration(cs, values=space.decode(row))

    def test_nested_spaces_become_conditions(self):
        space = Space(
            m=Choice(
                {
                    "svm": {
                        "C": Float(1e-3, 1e3, log=True),
                        "k": Choice({"rbf": {"g": Float(0, 1)}, "lin": None}),
                    },
                    "tree": None,
                }
            )
        )
        back = space_from_configspace(space_to_configspace(space))
        assert back.when == {"C": {"m": ["svm"]}, "k": {"m": ["svm"]}, "g": {"k": ["rbf"]}}
        assert back.check({"m": "svm", "C": 1.0, "k": "rbf", "g": 0.5})

    def test_conditions_in_every_shape_come_in(self):
        cs, c = self.cs.ConfigurationSpace(), self.cs
        a, o = c.CategoricalHyperparameter("a", ["x", "y", "z"]), c.OrdinalHyperparameter("o", [1, 2, 4, 8])
        n, k = (
            c.UniformIntegerHyperparameter("n", 0, 9),
            [c.UniformFloatHyperparameter(f"k{i}", 0, 1) for i in range(5)],
        )
        cs.add(a, o, n, *k)
        cs.add(c.NotEqualsCondition(k[0], a, "y"))
        cs.add(c.LessThanCondition(k[1], o, 4))
        cs.add(c.AndConjunction(c.GreaterThanCondition(k[2], n, 2), c.LessThanCondition(k[2], n, 7)))
        cs.add(c.OrConjunction(c.EqualsCondition(k[3], a, "x"), c.InCondition(k[3], a, ["y"])))
        cs.add(c.EqualsCondition(k[4], n, 5))
        assert space_from_configspace(cs).when == {
            "k0": {"a": ["x", "z"]},
            "k1": {"o": [1, 2]},
            "k2": {"n": Range(3, 6)},
            "k3": {"a": ["x", "y"]},
            "k4": {"n": [5]},
        }

    def test_clauses_and_priors_come_in(self):
        cs, c = self.cs.ConfigurationSpace(), self.cs
        a = c.CategoricalHyperparameter("a", ["x", "y"], weights=[0.8, 0.2])
        o, b = c.OrdinalHyperparameter("o", [1, 2, 4]), c.BetaFloatHyperparameter("b", 3, 2, 0, 1)
        n = c.NormalFloatHyperparameter("n", 5, 2, 0, 10)
        k = c.Constant("k", 7)
        cs.add(a, o, b, n, k)
        cs.add(c.ForbiddenAndConjunction(c.ForbiddenEqualsClause(a, "x"), c.ForbiddenGreaterThanClause(o, 1)))
        with pytest.warns(UserWarning, match="prior"):
            space = space_from_configspace(cs)
        assert space.own[0].values == {"a": ("x",), "o": (2, 4)}
        assert (space.domains["a"].guess, space.domains["a"].confidence) == ("x", 0.6)
        assert space.domains["b"].guess == pytest.approx(2 / 3)
        assert (space.domains["n"].guess, space.domains["n"].confidence) == (5.0, 0.45)
        assert space.domains["k"] == Choice([7])

    def test_what_cannot_be_expressed_is_named(self):
        cs, c = self.cs.ConfigurationSpace(), self.cs
        a, b, k = (c.CategoricalHyperparameter(n, ["x", "y"]) for n in "abk")
        cs.add(a, b, k, c.OrConjunction(c.EqualsCondition(k, a, "x"), c.EqualsCondition(k, b, "x")))
        with pytest.raises(UnsupportedError, match="'k' must be expressible"):
            space_from_configspace(cs)
        uneven = self.cs.ConfigurationSpace()
        uneven.add(c.CategoricalHyperparameter("a", ["x", "y", "z"], weights=[0.5, 0.3, 0.2]))
        with pytest.raises(UnsupportedError, match="'a' must be expressible.*weights"):
            space_from_configspace(uneven)

    @pytest.mark.parametrize(
        ("space", "message"),
        [
            (Space(p=Permutation([1, 2])), "'p'.*an order of 1, 2"),
            (Space(s=Subset([1, 2])), "'s'.*0 to 2 of 1, 2"),
            (Space({"x": Float(0, 1)}, constraints=[lambda c: c["x"] > 0.1]), "predicate"),
            (Space({"x": Float(0, 1), "y": Float(0, 1)}, constraints=[Linear({"x": 1, "y": 1}, 1)]), "linear"),
            (Space(m=Choice({"a": {"x": Bool()}, "b": {"x": Bool()}})), "'x'.*two branches"),
            (Space(o=Order([1, 2], guess=2, confidence=0.5)), "'o'.*ordered values"),
        ],
    )  # fmt: skip
    def test_what_cannot_go_out_is_named(self, space, message):
        with pytest.raises(UnsupportedError, match=message):
            space_to_configspace(space)

    def test_steps_become_an_ordinal(self):
        cs = space_to_configspace(Space(d=Float(0.0, 0.5, step=0.25)))
        assert list(cs["d"].sequence) == [0.0, 0.25, 0.5]


class TestOptuna:
    @pytest.fixture(autouse=True)
    def library(self):
        self.distributions = pytest.importorskip("optuna.distributions")

    def test_a_space_comes_back_as_it_went(self):
        space = Space(
            lr=Float(1e-5, 1e-1, log=True), d=Float(0, 1, step=0.25), n=Int(1, 9, step=2), w=Int(1, 64, log=True),
            c=Choice(["a", "b"]),
        )  # fmt: skip
        assert space_from_optuna(space_to_optuna(space)) == space

    def test_distributions_come_back_as_they_went(self):
        d = self.distributions
        given = {
            "x": d.FloatDistribution(0, 1), "n": d.IntDistribution(1, 4), "c": d.CategoricalDistribution([True, None, "a"]),
        }  # fmt: skip
        assert space_to_optuna(space_from_optuna(given)) == given

    def test_a_range_of_one_value_is_a_choice_of_one(self):
        assert space_from_optuna({"x": self.distributions.IntDistribution(3, 3)}) == Space(x=Choice([3]))

    @pytest.mark.parametrize(
        ("space", "message"),
        [
            (Space(m=Choice({"a": {"x": Bool()}, "b": None})), "'m=a/x'.*conditions only as code"),
            (Space(a=Bool(), b=Bool(), forbidden=[{"a": True, "b": True}]), "forbidden"),
            (Space(p=Permutation([1, 2])), "'p'"),
        ],
    )
    def test_what_cannot_go_out_is_named(self, space, message):
        with pytest.raises(UnsupportedError, match=message):
            space_to_optuna(space)

    def test_options_that_are_no_plain_values_are_named(self):
        import warnings

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            odd = self.distributions.CategoricalDistribution([(1, 2), (3, 4)])
        with pytest.raises(UnsupportedError, match="'c'.*no plain values"):
            space_from_optuna({"c": odd})
