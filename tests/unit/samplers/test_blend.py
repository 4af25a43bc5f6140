from __future__ import annotations

import pytest

from tunewright import catalog
from tunewright.core.algorithm import Start, generator
from tunewright.core.domains import Float, Int
from tunewright.core.events import Ended, Started
from tunewright.core.problem import Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.samplers.blend import Blend
from tunewright.samplers.cqr import Cqr
from tunewright.samplers.grid import Grid
from tunewright.samplers.random import Random
from tunewright.samplers.tpe import Tpe

LINE = Problem(Space(x=Float(0, 1)))


def drawn(actions) -> list[bool]:
    return ["drawn" in (a.why or {}) for a in actions]


def test_a_third_is_drawn() -> None:
    # Falkner et al. 2018, Algorithm 2, line 1: rho = 1/3; three standard deviations of 3000 draws are 0.026.
    blend = Blend(Random())
    state = blend.init(LINE)
    found = [drawn(blend.ask(state, 1, generator(0, i)))[0] for i in range(3000)]
    assert sum(found) / 3000 == pytest.approx(1 / 3, abs=0.026)


@pytest.mark.parametrize(("share", "expected"), [(0.0, False), (1.0, True)])
def test_the_ends_of_the_share(share: float, expected: bool) -> None:
    blend = Blend(Random(), share)
    actions = blend.ask(blend.init(LINE), 7, generator(0, 0))
    assert drawn(actions) == [expected] * 7


def test_draws_come_from_the_prior_and_the_rest_from_the_sampler() -> None:
    blend = Blend(Grid(), 0.5)
    grid = {a.config["x"] for a in Grid().ask(Grid().init(LINE), 10, generator(0, 0))}
    actions = blend.ask(blend.init(LINE), 8, generator(0, 1))
    assert 0 < sum(drawn(actions)) < 8
    for action, chance in zip(actions, drawn(actions), strict=True):
        assert (action.config["x"] not in grid) is chance


def test_the_sampler_hears_everything() -> None:
    blend = Blend(Tpe())
    events = [Started(0, {"x": 0.5}), Ended(0, 1, "completed", {"loss": 1.0})]
    assert blend.tell(blend.init(LINE), events).inner.history.n == 1


def test_finite_spaces_are_never_repeated_within_one_decision() -> None:
    problem = Problem(Space(n=Int(0, 5)))
    for turn in range(20):
        blend = Blend(Random(), 0.5)
        actions = blend.ask(blend.init(problem), 6, generator(0, turn))
        configs = [a.config["n"] for a in actions if isinstance(a, Start)]
        assert len(set(configs)) == len(configs) == 6


def test_it_shows_what_its_sampler_is() -> None:
    assert Blend(Tpe()).deliberate is bool(getattr(Tpe(), "deliberate", False))
    assert not Blend(Tpe()).mixes_levels
    assert Blend(Cqr()).mixes_levels
    assert catalog.build("blend(tpe)") == Blend(Tpe())


def test_a_share_is_a_probability() -> None:
    for share in (-0.1, 1.1, float("nan")):
        with pytest.raises(ConfigError):
            Blend(Random(), share)
