"""The rule as printed in the paper, and as its authors released it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tunewright.errors import ConfigError
from tunewright.scaling.hyper_rule import hyper_rule


@pytest.mark.parametrize(
    "examples, size, steps, mixup",
    [
        (1, "small", 500, 0.0),
        (19_999, "small", 500, 0.0),
        (20_000, "medium", 10_000, 0.1),
        (499_999, "medium", 10_000, 0.1),
        (500_000, "large", 20_000, 0.1),
    ],
)
def test_rule_of_the_paper(examples: int, size: str, steps: int, mixup: float) -> None:
    found = hyper_rule(examples, 32, 32)
    assert (found.size, found.steps, found.mixup) == (size, steps, mixup)
    assert (found.lr, found.momentum, found.batch, found.weight_decay) == (0.003, 0.9, 512, 0.0)
    assert found.milestones == tuple(steps * k // 10 for k in (3, 6, 9))


@pytest.mark.parametrize(
    "side, paper, code",
    [
        ((32, 32), (160, 128), (160, 128)),
        ((95, 96), (160, 128), (160, 128)),
        ((96, 96), (448, 384), (512, 480)),
    ],
)
def test_resolutions(side: tuple[int, int], paper: tuple[int, int], code: tuple[int, int]) -> None:
    for source, wanted in (("paper", paper), ("code", code)):
        found = hyper_rule(1000, *side, source=source)  # type: ignore[arg-type]
        assert (found.resize, found.crop) == wanted


@pytest.mark.parametrize(
    "step, rate",
    [(0, 0.0), (50, 0.0015), (100, 0.003), (200, 0.003), (201, 3e-4), (301, 3e-5), (401, 3e-6), (499, 3e-6)],
)
def test_rates_of_the_released_code(step: int, rate: float) -> None:
    # Values of get_lr in the authors' bit_hyperrule.py for a data set of 10,000.
    assert hyper_rule(10_000, 32, 32, source="code").rate(step) == pytest.approx(rate)


def test_few_examples_train_shorter_in_the_code() -> None:
    assert hyper_rule(4_999, 32, 32, source="code").steps == 100
    assert hyper_rule(5_000, 32, 32, source="code").steps == 500


@given(st.integers(1, 10**7), st.integers(1, 10**7), st.sampled_from(["paper", "code"]))
def test_more_examples_never_train_shorter(a: int, b: int, source: Any) -> None:
    less, more = sorted((a, b))
    assert hyper_rule(less, 64, 64, source=source).steps <= hyper_rule(more, 64, 64, source=source).steps


@given(st.integers(10, 5000), st.sampled_from([100, 30_000, 10**6]), st.sampled_from(["paper", "code"]))
def test_shortened_falls_as_often(steps: int, examples: int, source: Any) -> None:
    rule = hyper_rule(examples, 64, 64, source=source).shortened(steps, 16)
    rates = [rule.rate(k) for k in range(rule.warm_up, steps)]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] == pytest.approx(0.003) and rule.batch == 16
    assert rates[-1] == pytest.approx(3e-6) or steps < 30


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: hyper_rule(0, 32, 32), "examples of a task"),
        (lambda: hyper_rule(100, 32.0, 32), "height of a task"),  # type: ignore[arg-type]
        (lambda: hyper_rule(100, 32, 32, source="blog"), "'paper' or 'code'"),  # type: ignore[arg-type]
        (lambda: hyper_rule(100, 32, 32).rate(500), r"in \[0, 500\)"),
        (lambda: hyper_rule(100, 32, 32).shortened(5), "10 steps"),
    ],
)
def test_bad_input(call: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        call()
