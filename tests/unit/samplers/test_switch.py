import numpy as np
import pytest

from tunewright import catalog
from tunewright.core.domains import Float
from tunewright.core.events import Started
from tunewright.core.problem import Objective, Problem
from tunewright.core.space import Space
from tunewright.errors import ConfigError
from tunewright.samplers.quasirandom import QuasiRandom
from tunewright.samplers.random import Random
from tunewright.samplers.switch import Switch


def test_the_handover_is_logged_once_with_both_names():
    switch = Switch((Random(), QuasiRandom()), (3,))
    state = switch.init(Problem(Space(x=Float(0.0, 1.0))))
    notes = []
    for number in range(6):
        (action,) = switch.ask(state, 1, np.random.default_rng(number))
        notes.append((action.why or {}).get("switch"))
        state = switch.tell(state, [Started(number, action.config)])
    assert notes == [None, None, None, "random -> quasirandom", None, None]


def test_the_later_method_knows_the_earlier_trials():
    switch = Switch((Random(), QuasiRandom()), (1,))
    state = switch.tell(switch.init(Problem(Space(x=Float(0.0, 1.0)))), [Started(0, {"x": 0.5})])
    assert state.started == 1
    assert len(state.states) == 2


def test_numbers_must_fit_the_methods():
    with pytest.raises(ConfigError, match="ascending"):
        Switch((Random(), Random()), (5, 3))


def test_it_cannot_be_built_from_its_name_alone():
    with pytest.raises(ConfigError, match="'switch' needs methods and until"):
        catalog.build("switch")


def test_many_parameters_call_for_a_trust_region():
    few, many = (Problem(Space({f"x{i}": Float(0.0, 1.0) for i in range(d)})) for d in (30, 31))
    assert catalog.choose(few)[1] == "bayes, then tpe"
    assert catalog.choose(many)[1] == "turbo, then tpe"


def test_several_objectives_call_for_the_hypervolume():
    space = Space(x=Float(0.0, 1.0))
    names = {}
    for m in (1, 2, 4, 5):
        problem = Problem(space, tuple(Objective(f"loss{i}") for i in range(m)))
        names[m] = catalog.choose(problem)[1]
    assert names == {
        1: "bayes, then tpe",
        2: "ehvi, then tpe",
        4: "ehvi, then tpe",
        5: "bayes, then tpe",
    }
