"""The coordinate check: published figures, what it measures, and what it must catch."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402
from torch import nn  # noqa: E402

from tunewright.bench.micro import CharTransformer, ConvNet, Mlp  # noqa: E402
from tunewright.errors import ConfigError  # noqa: E402
from tunewright.scaling import Family  # noqa: E402
from tunewright.scaling.checking import (  # noqa: E402
    made_up,
    scores,
    slope,
    stream,
    usual_loss,
    without_chance,
)
from tunewright.scaling.coordinates import coordinate_check  # noqa: E402
from tunewright.scaling.multipliers import detach_  # noqa: E402

MLP = Family(Mlp, base={"width": 32, "depth": 2})
BATCHES = made_up(Mlp())


def test_slopes_are_powers() -> None:
    sizes = np.array([32.0, 64, 128, 512])
    values = np.stack([3 * sizes**0.5, sizes**-1.0, np.full(4, 7.0)], axis=1)
    assert slope(sizes.tolist(), values) == pytest.approx([0.5, -1.0, 0.0])
    values[1, 0], values[2, 1] = np.inf, 0.0
    found = slope(sizes.tolist(), values)
    assert found[0] == np.inf and np.isnan(found[1]) and found[2] == pytest.approx(0)


@settings(max_examples=25, deadline=None)
@given(power=st.floats(-2, 2), scale=st.floats(0.01, 100))
def test_a_slope_ignores_the_scale(power: float, scale: float) -> None:
    sizes = [16, 32, 64, 128]
    values = scale * np.array(sizes, dtype=float) ** power
    assert float(slope(sizes, values[:, None])[0]) == pytest.approx(power, abs=1e-9)


@pytest.mark.parametrize(("rule", "passes"), [("sp", False), ("mup", True)])
def test_standard_parametrization_blows_up_and_mup_does_not(rule: str, passes: bool) -> None:
    found = coordinate_check(MLP, rule, BATCHES, sizes=(32, 128, 512), seeds=(0, 1))
    assert found.passed is passes
    assert set(found.slopes) == {"inlet", "activation", "hidden.0", "activation#2", "output"}
    if (
        not passes
    ):  # Adam moves every weight by the rate, so what a layer puts out changes by more the wider it is
        assert found.slopes["output"] > 0.5
        assert found.slopes["hidden.0"] > 0.5
        assert "grows with the width" in found.why and "<" in found.table()
    else:
        assert abs(found.slopes["output"]) < 0.2 and "<" not in found.table()
    data = found.to_dict()
    assert data["passed"] is passes and len(data["changes"]["output"]) == 3


@pytest.mark.slow
def test_published_figures_on_the_digits() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    x, y = (torch.as_tensor(v) for v in datasets.load_digits(return_X_y=True))
    x = ((x - x.mean()) / x.std()).float()

    def batches(seed: int) -> Iterator[Any]:
        g = torch.Generator().manual_seed(seed)
        while True:
            rows = torch.randint(0, len(x), (256,), generator=g)
            yield x[rows], y[rows]

    # Adam, 3 steps at 2^-7, widths 32 and 2048: changes of scores and of hidden units.
    expected = {
        "sp": ((0.15, 9.8), (0.18, 2.0)),
        "mup": ((0.15, 0.11), (0.18, 0.20)),
        "sp-layerwise": ((0.15, 0.70), (0.18, 0.20)),
    }
    for rule, (out, hidden) in expected.items():
        found = coordinate_check(MLP, rule, batches, sizes=(32, 2048))
        for name, reference in (("output", out), ("activation#2", hidden)):
            i = found.modules.index(name)
            middle = np.exp(np.log(found.changes[:, :, -1, i]).mean(axis=1))
            assert np.abs(np.log2(middle / np.array(reference))).max() < 1, (rule, name, middle)


def test_what_is_measured_is_what_the_modules_put_out() -> None:
    found = coordinate_check(MLP, "mup", BATCHES, sizes=(32, 64), steps=1, seeds=(3,), lr=0.01)
    for i, size in enumerate((32, 64)):
        model, plan = MLP.build("mup", 3, optimizer="adam", width=size)
        x, y = next(BATCHES(3))
        before = model(x)
        hidden = model.activation(model.hidden[0](model.activation(model.inlet(x)))).detach()
        stepper = torch.optim.Adam(plan.param_groups(0.01))
        usual_loss(before, y).backward()
        stepper.step()
        after = model(x).detach()
        at = found.modules.index("output")
        assert found.activations[i, 0, 0, at] == pytest.approx(
            float(before.detach().square().mean().sqrt()), rel=1e-5
        )
        assert found.changes[i, 0, 0, at] == pytest.approx(
            float((after - before.detach()).square().mean().sqrt()), rel=1e-5
        )
        at = found.modules.index("activation#2")
        assert found.activations[i, 0, 0, at] == pytest.approx(float(hidden.square().mean().sqrt()), rel=1e-5)


def test_a_forgotten_multiplier_is_found() -> None:
    class Careless(Family):
        def build(self, *args: Any, **more: Any) -> Any:
            model, plan = super().build(*args, **more)
            detach_(model)
            return model, plan

    found = coordinate_check(
        Careless(Mlp, base={"width": 32}), "mup", BATCHES, sizes=(32, 128, 512), seeds=(0,)
    )
    assert not found.passed and found.worst[0] == "output" and found.worst[1] > 0.5


def test_a_transformer_and_a_convnet_pass_under_mup_with_made_up_data() -> None:
    letters = Family(CharTransformer, base={"width": 32, "depth": 1})
    assert coordinate_check(letters, "mup", made_up(letters.model()), sizes=(32, 64, 128), seeds=(0,)).passed
    images = Family(ConvNet, base={"width": 16})
    x, y = next(made_up(images.model())(0))
    assert x.shape == (32, 1, 12, 12) and y.shape == (32,)
    assert coordinate_check(images, "mup", made_up(images.model()), sizes=(16, 32, 64), lr=2**-9).passed


def test_a_model_is_left_as_training_would_leave_it() -> None:
    model = without_chance(CharTransformer(width=32, dropout=0.5))
    x = torch.randint(0, 27, (2, 8))
    assert torch.equal(model(x), model(x)) and model.training


def test_made_up_data_repeat_by_seed_and_can_be_learned() -> None:
    first, again, other = (next(BATCHES(s)) for s in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    model = Mlp(width=64)
    stepper = torch.optim.Adam(model.parameters(), 0.01)
    losses = []
    for (x, y), _ in zip(BATCHES(0), range(60), strict=False):
        stepper.zero_grad()
        value = usual_loss(model(x), y)
        value.backward()
        stepper.step()
        losses.append(float(value.detach()))
    assert np.mean(losses[-10:]) < 0.85 * np.mean(losses[:10])


def test_outputs_of_other_kinds() -> None:
    t = torch.zeros(2, 3)
    assert scores((t, None)) is t and scores({"logits": t}) is t
    assert float(usual_loss(torch.ones(4, 1), torch.zeros(4))) == 1.0
    with pytest.raises(ConfigError, match="return a tensor"):
        scores("text")


class Pixels(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.weight = nn.Linear(width, width)

    def forward(self, x: Any) -> Any:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: coordinate_check(MLP, "mup", BATCHES, sizes=(32,)), "2 sizes or more"),
        (lambda: coordinate_check(MLP, "mup", BATCHES, along="heads"), "along width or depth"),
        (lambda: coordinate_check(MLP, "mup", BATCHES, sizes=(32, 64), steps=0), "needs a step"),
        (lambda: coordinate_check(MLP, "mup", lambda s: [next(BATCHES(s))], sizes=(32, 64)), "ended before"),
        (lambda: coordinate_check(MLP, "mup", lambda s: [1, 2], sizes=(32, 64)), "pairs of tensors"),
        (lambda: coordinate_check(MLP, "sp", BATCHES, sizes=(32, 64), optimizer="kfac"), "pass make="),
        (lambda: made_up(Pixels()), "made up from the model's first layers"),
        (lambda: next(stream(lambda s: [], 0)), "ended before"),
    ],
)
def test_mistakes_are_said_in_a_sentence(call: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        call()


def test_a_broken_training_fails_with_its_reason() -> None:
    found = coordinate_check(MLP, "mup", BATCHES, sizes=(32, 64), lr=1e30, seeds=(0,))
    assert not found.passed and "broke down" in found.why


def test_nothing_trained_is_not_a_pass() -> None:
    class Frozen(Mlp):
        def __init__(self, **sizes: Any) -> None:
            super().__init__(**sizes)
            self.requires_grad_(False)
            self.outlet.bias.requires_grad_(True)

    family = Family(Frozen, base={"width": 16})
    found = coordinate_check(family, "sp", BATCHES, sizes=(16, 32), seeds=(0,))
    assert list(found.slopes) == ["output"]
    assert copy.copy(found).passed


def test_seeds_that_differ_too_much_are_not_a_pass() -> None:
    found = coordinate_check(MLP, "mup", BATCHES, sizes=(32, 64), seeds=(0, 1), steps=1)
    changes = found.changes.copy()
    changes[1, 0] *= 4
    changes[1, 1] /= 4
    noisy = type(found)(**{**{f: getattr(found, f) for f in found.__slots__}, "changes": changes})
    assert not noisy.passed and "too much to tell" in noisy.why
