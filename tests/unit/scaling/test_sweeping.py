"""Sweeps: stacked trainings are what single ones are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tunewright import scaling
from tunewright.bench.micro import CharTransformer, Mlp, next_letter_loss
from tunewright.errors import ConfigError
from tunewright.optim.adam_atan2 import AdamAtan2
from tunewright.scaling import sweeping

FAMILY = scaling.Family(Mlp, base={"width": 16})
PLAN = FAMILY.plan("mup", width=32)


def batches(seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        x = torch.randn(16, 64, generator=generator)
        yield x, x[:, :10].argmax(dim=1)


def build(seed: int) -> nn.Module:
    model = FAMILY.model(width=32)
    PLAN.apply_(model, seed)
    return model


def alone(seed: int, rate: float, optimizer: str, decay: float) -> list[float]:
    model = build(seed)
    groups = PLAN.param_groups(rate, decay, model=model)
    made: Any = {
        "adamw": lambda: torch.optim.AdamW(groups),
        "adam": lambda: torch.optim.Adam(groups),
        "sgd": lambda: torch.optim.SGD(groups, momentum=0.9),
        "adam-atan2": lambda: AdamAtan2(groups, betas=(0.9, 0.999)),
    }[optimizer]()
    stream, out = batches(seed), []
    for _ in range(8):
        x, y = next(stream)
        loss = nn.functional.cross_entropy(model(x), y)
        made.zero_grad()
        loss.backward()
        made.step()
        out.append(loss.item())
    return out


@pytest.mark.parametrize(
    ("optimizer", "decay"), [("adamw", 0.1), ("adam", 0.0), ("adam", 0.1), ("sgd", 0.1), ("adam-atan2", 0.0)]
)
def test_a_training_in_a_sweep_is_that_training_alone(optimizer: Any, decay: float) -> None:
    how = scaling.How(optimizer, weight_decay=decay)
    found = scaling.sweep(
        build, [0.003, 0.01], [0, 1], batches, nn.functional.cross_entropy, steps=8, how=how, plan=PLAN
    )
    assert found.losses.shape == (2, 2, 8)
    for r, rate in enumerate((0.003, 0.01)):
        for s in (0, 1):
            assert found.losses[r, s] == pytest.approx(alone(s, rate, optimizer, decay), rel=2e-5), (rate, s)


def test_lion_moves_every_weight_by_the_rate() -> None:
    """Its first step is the sign of the gradient; the loss after it is that of the model moved by hand."""
    model = build(0)
    x, y = next(batches(0))
    nn.functional.cross_entropy(model(x), y).backward()
    with torch.no_grad():
        for n, p in model.named_parameters():
            assert p.grad is not None
            p.sub_(0.01 * PLAN.entries[n].lr * p.grad.sign())
    stream = batches(0)
    next(stream)
    x, y = next(stream)
    expected = float(nn.functional.cross_entropy(model(x), y).detach())
    found = scaling.sweep(
        build, [0.01], [0], batches, nn.functional.cross_entropy, steps=2, how=scaling.How("lion"), plan=PLAN
    )
    assert found.losses[0, 0, 1] == pytest.approx(expected, rel=1e-5)


def test_trainings_in_turn_are_those_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def run() -> Any:
        return scaling.sweep(build, [0.01, 0.1], [0, 1], batches, nn.functional.cross_entropy, steps=4).losses

    at_once = run()
    monkeypatch.setattr(sweeping, "_ELEMENTS", 1)
    assert run() == pytest.approx(at_once, rel=1e-5)


def test_what_breaks_down_is_infinite_and_never_the_best() -> None:
    found = scaling.sweep(
        build,
        [0.01, 1e12],
        [0],
        batches,
        nn.functional.cross_entropy,
        steps=12,
        how=scaling.How("sgd"),
    )
    assert np.isinf(found.losses[1, 0, -1])
    assert np.isinf(found.final[1, 0])
    assert found.best == 0.01
    assert list(found.best_by_seed()) == [0.01]


def test_a_schedule_multiplies_the_rate() -> None:
    def run(rate: float, schedule: Any) -> Any:
        how = scaling.How("sgd", schedule=schedule)
        return scaling.sweep(
            build, [rate], [0], batches, nn.functional.cross_entropy, steps=5, how=how
        ).losses

    assert run(0.02, lambda _: 0.5) == pytest.approx(run(0.01, None), rel=1e-6)


def test_a_transformer_is_judged_on_held_out_text() -> None:
    def letters(seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(seed)
        while True:
            x = torch.randint(27, (4, 9), generator=generator)
            yield x[:, :-1], x[:, 1:]

    def model(seed: int) -> nn.Module:
        torch.manual_seed(seed)
        return CharTransformer(width=16, depth=1)

    held = next(letters(99))
    found = scaling.sweep(model, [1e-6], [3], letters, next_letter_loss, steps=1, held_out=held)
    with torch.no_grad():
        expected = float(next_letter_loss(model(3)(held[0]), held[1]))
    assert found.final[0, 0] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"rates": []}, "needs rates, seeds and steps"),
        ({"rates": [0.0]}, "must be positive"),
        ({"steps": 0}, "needs rates, seeds and steps"),
        ({"how": scaling.How("rmsprop")}, "A sweep steps by"),  # type: ignore[arg-type]
        ({"batches": lambda seed: [next(batches(seed))]}, "Yield one per step"),
    ],
)
def test_mistakes_are_told_in_a_sentence(more: dict[str, Any], words: str) -> None:
    given = {"rates": [0.1], "seeds": [0], "batches": batches, "steps": 3, **more}
    rates, seeds, stream = given.pop("rates"), given.pop("seeds"), given.pop("batches")
    with pytest.raises(ConfigError, match=words):
        scaling.sweep(build, rates, seeds, stream, nn.functional.cross_entropy, **given)
