"""Trainings side by side are the trainings they stand for."""

from __future__ import annotations

import math
import tempfile

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from claims import micro_lm  # noqa: E402

from tunewright import scaling  # noqa: E402
from tunewright.bench.micro import CharTransformer, next_letter_loss  # noqa: E402


@pytest.fixture(autouse=True)
def _apart(tmp_path, monkeypatch):
    """Keeps results of tests out of those of claims."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    micro_lm.curves.cache_clear()
    yield
    micro_lm.curves.cache_clear()


def _model(width):
    return CharTransformer(width=width, depth=1, context=micro_lm.CONTEXT)


def _alone(rate, seed, width, rows, tokens):
    """Held-out loss of a training with a cosine, by PyTorch's own Adam."""
    model = _model(width)
    plan = scaling.plan("mup", model, _model(16), delta=_model(32), optimizer="adam", form="folded")
    plan.init_(model, seed)
    groups = plan.param_groups(rate)
    peaks = [g["lr"] for g in groups]
    batch = rows * micro_lm.CONTEXT
    last = tokens // batch
    optimizer = torch.optim.Adam(groups, betas=(0.9, min(0.999, max(0.95, 1 - batch / 2**15))), eps=1e-10)
    text = torch.from_numpy(micro_lm.pieces(tokens, 0))
    order = np.random.default_rng([seed, 11]).permutation(len(text))
    for t in range(1, last + 1):
        share = min(1.0, t * batch / (tokens / 16)) * (0.55 + 0.45 * math.cos(math.pi * t / last))
        for group, peak in zip(optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * share
        x = text[order[(t - 1) * rows : t * rows]]
        optimizer.zero_grad()
        next_letter_loss(model(x[:, :-1]), x[:, 1:]).backward()
        optimizer.step()
    held = torch.from_numpy(micro_lm.pieces(128 * micro_lm.CONTEXT, 1))
    with torch.no_grad():
        return float(next_letter_loss(model(held[:, :-1]), held[:, 1:]))


def test_every_rate_and_seed_is_as_if_trained_alone():
    rates, seeds, tokens = (2.0**-8, 2.0**-5), (0, 3), 2**12
    found = micro_lm.curves(micro_lm.Cell(32, 4, rates, seeds, tokens, cosine=True))
    alone = [[_alone(r, s, 32, 4, tokens) for s in seeds] for r in rates]
    np.testing.assert_allclose(found.losses[:, :, -1], alone, rtol=2e-3)
    assert found.tokens.tolist() == [tokens]


def test_results_are_recalled():
    cell = micro_lm.Cell(16, 8, (0.01,), (0,), 2**13)
    first = micro_lm.curves(cell)
    micro_lm.curves.cache_clear()
    again = micro_lm.curves(cell)
    np.testing.assert_array_equal(first.losses, again.losses)
    assert first.parameters == again.parameters == sum(p.numel() for p in _model(16).parameters())


def test_targets_are_met_where_the_curve_crosses_them():
    tokens = np.array([1.0, 2.0, 4.0, 8.0])
    found = micro_lm.Curves(tokens, np.array([[[4.0, 3.0, 2.0, 2.5]], [[9.0, 8.0, np.inf, np.inf]]]), 1)
    np.testing.assert_allclose(found.reach(2.5)[:, 0], [2**1.5, np.inf])
    np.testing.assert_allclose(found.reach(10.0), 1.0)
    np.testing.assert_allclose(found.at(2**0.5)[0, 0], 3.5)


def test_the_lowest_point_of_a_parabola():
    x = np.arange(5.0)
    where, value = micro_lm.lowest(x, (x - 1.7) ** 2 + 3)
    assert math.isclose(where, 1.7)
    assert math.isclose(value, 3.0)
    assert micro_lm.lowest(x, x) == (0.0, 0.0)
    assert micro_lm.lowest(x, np.full(5, np.inf))[1] == math.inf
