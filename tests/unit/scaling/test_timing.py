"""The time model recovers times made by a known machine, says how far off it may be, and refuses what it never saw."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tunewright.errors import ConfigError
from tunewright.scaling.counting import TransformerShape, transformer
from tunewright.scaling.timing import TimedLoss, best_shapes, calibrate, fit_loss, measure, measure_step

MACHINE = {"flops": 2e-11, "copies": 5e-10, "kernels": 8e-6, "one": 3e-4}


def shapes(n: int, seed: int = 0) -> list[TransformerShape]:
    """Different shapes of very different size."""
    rng = np.random.default_rng(seed)
    return [
        TransformerShape(
            int(rng.choice([32, 64, 128, 256])),
            int(rng.integers(1, 12)),
            int(rng.choice([1, 2, 4])),
            int(rng.choice([16, 32, 64, 128])),
            int(rng.choice([1, 2, 4, 8, 16])),
            int(rng.choice([27, 256, 1024])),
        )
        for _ in range(n)
    ]


def seconds(given: list[TransformerShape]) -> list[float]:
    """What a machine with known coefficients takes."""
    counted = [transformer(s, attention="explicit") for s in given]
    return [MACHINE["one"] + sum(MACHINE[k] * getattr(c, k) for k in MACHINE if k != "one") for c in counted]


def test_known_machine() -> None:
    model = calibrate(shapes(30), seconds(shapes(30)))
    assert dict(zip(model.basis, model.weights, strict=True)) == pytest.approx(MACHINE, rel=1e-6)
    new = shapes(5, seed=1)
    assert [model.predict(s).seconds for s in new] == pytest.approx(seconds(new), rel=1e-6)
    assert model.error < 1e-6


def test_range_covers_noisy_times() -> None:
    rng = np.random.default_rng(3)
    hits, total = 0, 0
    for _ in range(8):
        known, new = shapes(40, int(rng.integers(10**6))), shapes(25, int(rng.integers(10**6)))
        noisy = np.array(seconds(known)) * np.exp(rng.normal(0, 0.2, 40))
        model = calibrate(known, list(noisy), level=0.9)
        for s, t in zip(new, seconds(new), strict=True):
            found = model.predict(s, slack=1e9)
            hits += found.low <= t * np.exp(rng.normal(0, 0.2)) <= found.high
            total += 1
    # 200 trials at .9 with noise shared within groups of 25: fewer than 164 hits has a probability below 1e-3.
    assert hits >= 0.82 * total


def test_flops_cannot_tell_what_copies_can() -> None:
    known = shapes(40)
    errors = {b: calibrate(known, seconds(known), basis=b).error for b in ("full", "flops", "flops-curve")}
    assert errors["full"] < 0.1 * errors["flops-curve"] <= errors["flops"]


def test_outside_the_box() -> None:
    model = calibrate(shapes(30), seconds(shapes(30)))
    huge = TransformerShape(4096, 32, 32, 2048, 8, 32000)
    with pytest.raises(ConfigError, match="near shapes that were measured"):
        model.predict(huge)
    with pytest.warns(UserWarning, match="Calibrate on shapes"):
        assert not model.predict(huge, outside="warn").inside


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"seconds": [1.0]}, "needs 9 different shapes"),
        ({"shapes": shapes(1) * 30}, "needs 9 different shapes"),
        ({"seconds": [*seconds(shapes(30))[:-1], float("nan")]}, "finite and above 0"),
        ({"seconds": [*seconds(shapes(30))[:-1], 0.0]}, "finite and above 0"),
        ({"basis": "magic"}, "basis must be"),
        ({"level": 1.0}, "level must be"),
        (
            {"shapes": [TransformerShape(32, 2, 2, 16, b, 27) for b in range(1, 31)]},
            "Vary width",
        ),
    ],
)
def test_bad_calibration(arguments: dict[str, Any], words: str) -> None:
    given = {"shapes": shapes(30), "seconds": seconds(shapes(30)), **arguments}
    with pytest.raises(ConfigError, match=words):
        calibrate(given.pop("shapes"), given.pop("seconds"), **given)


def test_loss_law_is_recovered() -> None:
    # Chinchilla's published coefficients (Hoffmann et al. 2022, equation 10).
    law = TimedLoss(1.69, 406.4, 410.7)
    n, d = (a.ravel() for a in np.meshgrid([1e8, 1e9, 1e10], [1e9, 1e10, 1e11]))
    found = fit_loss(n, d, [law(a, b) for a, b in zip(n, d, strict=True)])
    assert (found.floor, found.a, found.b) == pytest.approx((1.69, 406.4, 410.7), rel=1e-6)
    with pytest.raises(ConfigError, match="2 sizes and 2 lengths"):
        fit_loss([1e8] * 5, [1e9, 2e9, 3e9, 4e9, 5e9], [3.0] * 5)
    with pytest.raises(ConfigError, match="diverged"):
        fit_loss(n, d, [np.nan] * 9)


def test_more_seconds_choose_more_weights() -> None:
    known = shapes(30)
    model = calibrate(known, seconds(known))
    law = TimedLoss(1.0, 40.0, 40.0)
    candidates = [TransformerShape(w, 4, w // 16, 64, 8, 256) for w in (32, 48, 64, 96, 128, 192, 256)]
    sizes = [best_shapes(candidates, s, model, law)[0].shape.parameters for s in (1, 30, 1000, 1e5)]
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1]
    first = best_shapes(candidates, 30, model, law)[0]
    assert first.low <= first.loss <= first.high
    assert first.tokens == first.steps * 512
    with pytest.raises(ConfigError, match="none is near"):
        best_shapes([TransformerShape(4096, 32, 32, 2048, 8, 32000)], 30, model, law)
    with pytest.raises(ConfigError, match="above 0 seconds"):
        best_shapes(candidates, 0, model, law)


def test_median_of_a_clock() -> None:
    ticks = iter([0, 1, 10, 13, 20, 22])
    assert measure(lambda: None, repeats=3, clock=lambda: next(ticks)) == 2


def test_larger_models_take_longer() -> None:
    small, large = TransformerShape(16, 1, 1, 8, 1, 27), TransformerShape(128, 4, 4, 64, 8, 27)
    assert measure_step(large, repeats=3) > 2 * measure_step(small, repeats=3) > 0
    with pytest.raises(ConfigError, match="optimizer must be"):
        measure_step(small, optimizer="lion")
