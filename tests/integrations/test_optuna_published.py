"""Optuna's own test cases for samplers, run on ours with every method that `auto` may take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

optuna = pytest.importorskip("optuna")
published = pytest.importorskip("optuna.testing.pytest_samplers")

from tunewright.core.algorithm import Action  # noqa: E402
from tunewright.core.events import Event  # noqa: E402
from tunewright.core.problem import Problem  # noqa: E402
from tunewright.errors import UnsupportedError  # noqa: E402
from tunewright.integrations.optuna_sampler import TunewrightSampler  # noqa: E402

METHODS = ["random", "tpe", "auto", "bayes"]


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(before)


class Ours:
    """What the published cases ask of a sampler's author: something that makes one."""

    @pytest.fixture(params=METHODS)
    def sampler(self, request: pytest.FixtureRequest) -> Callable[[], TunewrightSampler]:
        method = request.param
        return lambda: TunewrightSampler(method, seed=7)


class TestBasic(Ours, published.BasicSamplerTestCase):
    """Independent draws, conditional and moving ranges, NaN, single values."""


class TestRelative(Ours, published.RelativeSamplerTestCase):
    """Joint proposals over numbers, options and both, in one thread and in two."""


class TestMultiObjective(Ours, published.MultiObjectiveSamplerTestCase):
    """Draws in a study with two objectives."""


@dataclass(frozen=True)
class OneObjective:
    """A method that knows one objective only."""

    def init(self, problem: Problem) -> None:
        if problem.m > 1:
            raise UnsupportedError(f"One objective is all it knows; got {problem.m}.")

    def tell(self, state: None, events: Sequence[Event]) -> None:
        return None

    def ask(self, state: None, slots: int, rng: Any) -> tuple[Action, ...]:
        return ()


class TestSingleOnly(published.SingleOnlySamplerTestCase):
    """A method for one objective refuses two as Optuna expects it to, with a ValueError."""

    @pytest.fixture
    def sampler(self) -> Callable[[], TunewrightSampler]:
        return lambda: TunewrightSampler(OneObjective())
