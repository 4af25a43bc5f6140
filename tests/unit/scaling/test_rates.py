"""The transfer check: its arithmetic on curves whose best rates are known, and on a small network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tunewright.bench.micro import Mlp  # noqa: E402
from tunewright.errors import ConfigError  # noqa: E402
from tunewright.scaling import Family  # noqa: E402
from tunewright.scaling.checking import made_up  # noqa: E402
from tunewright.scaling.rates import Rates, rate_check  # noqa: E402

GRID = 2.0 ** np.arange(-8, -1)
FAMILY = Family(Mlp, base={"width": 16})


def bowls(best: list[float], noise: float = 0.0) -> Rates:
    """Losses that are parabolas in the logarithm of the rate with known lowest points."""
    rng = np.random.default_rng(0)
    losses = np.stack([(np.log2(GRID) - b) ** 2 for b in best])[:, :, None] + noise * rng.normal(
        size=(len(best), 7, 5)
    )
    sizes = tuple(16 * 2**i for i in range(len(best)))
    return Rates("mup", "adam", "width", sizes, 16, GRID, losses, sizes, (1.0,) * len(best))


def test_known_shifts() -> None:
    found = bowls([-5, -5, -4])
    assert (
        found.passed and found.shifts.tolist() == [0, 0, 1] and np.log2(found.best).tolist() == [-5, -5, -4]
    )
    assert found.regret == pytest.approx([0, 0, 1])
    found = bowls([-5, -6, -7])
    assert not found.passed and found.shifts.tolist() == [0, -1, -2]
    assert "does not transfer" in found.why and "-2 steps" in found.why
    assert found.regret[2] == pytest.approx(4) and found.to_dict()["shifts"] == [0, -1, -2]


def test_the_end_of_the_grid_is_not_a_pass() -> None:
    found = bowls([-7, -8])
    assert found.ends == (32,) and not found.passed and "end of those compared" in found.why


def test_intervals_show_how_sure_the_best_is() -> None:
    assert np.log2(bowls([-5, -5]).intervals()).tolist() == [[-5, -5], [-5, -5]]
    low, high = np.log2(bowls([-5, -5], noise=3.0).intervals()[0])
    assert high - low >= 1
    assert bowls([-5, -5], 3.0).intervals(seed=3).tolist() == bowls([-5, -5], 3.0).intervals(seed=3).tolist()


def test_diverged_rates_never_win() -> None:
    found = bowls([-5, -5])
    losses = found.losses.copy()
    losses[0, 3, 1] = np.inf
    broken = Rates("mup", "adam", "width", found.sizes, 16, GRID, losses, found.weights, found.seconds)
    assert np.log2(broken.best[0]) != -5
    assert broken.to_dict()["losses"][0][3][1] is None
    losses[1] = np.inf
    assert "every training broke down" in broken.why and not broken.passed


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_side_by_side_and_one_by_one_agree(optimizer: Any) -> None:
    more: dict[str, Any] = {"sizes": (16, 32), "rates": (0.01, 0.02, 0.04), "steps": 5, "seeds": (0, 1)}
    batches = made_up(FAMILY.model())
    held = next(batches(9))
    kinds = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    for held_out in (None, held):
        together = rate_check(FAMILY, "mup", batches, optimizer=optimizer, held_out=held_out, **more)
        alone = rate_check(
            FAMILY,
            "mup",
            batches,
            optimizer=optimizer,
            make=lambda plan, model, lr: kinds[optimizer](plan.param_groups(lr, model=model)),
            held_out=held_out,
            **more,
        )
        assert together.losses == pytest.approx(alone.losses, rel=1e-4)
    assert together.losses.shape == (2, 3, 2)
    assert together.weights == tuple(
        sum(p.numel() for p in FAMILY.model(width=w).parameters()) for w in (16, 32)
    )
    assert len(together.table().splitlines()) == 3


def test_the_base_is_what_shifts_are_counted_from() -> None:
    batches = made_up(FAMILY.model())
    found = rate_check(FAMILY, "sp", batches, sizes=(8, 16, 32), rates=GRID[:3], steps=2, seeds=(0,))
    assert found.base == 16 and found.shifts[1] == 0
    found = rate_check(FAMILY, "sp", batches, sizes=(24, 32), rates=GRID[:3], steps=2, seeds=(0,))
    assert found.base == 24


@pytest.mark.parametrize(
    ("rates", "says"),
    [
        ((0.1, 0.2), "three positive"),
        ((0.1, 0.2, 0.3), "evenly"),
        ((0.1, 0.1, 0.1), "evenly"),
        ((-1, 1, 2), "three"),
    ],
)
def test_mistakes_are_said_in_a_sentence(rates: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        rate_check(FAMILY, "mup", made_up(FAMILY.model()), sizes=(16, 32), rates=rates)
