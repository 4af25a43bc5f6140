"""Unit-scaled operations against numbers of the authors' package, unit-scaling 0.3.5, in double precision.

Each line has the norms of an operation's output and of the gradient of every input, where inputs are sines of 1, 2, 3, ... times a
step and the output is weighted by cosines of 0, 1, 2, ...
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from tunewright.scaling import unit  # noqa: E402

INDEX = torch.arange(12).reshape(3, 4) % 5
CASES: dict[
    str, tuple[Callable[..., Any], tuple[tuple[tuple[int, ...], float], ...], tuple[float, ...], float]
] = {
    "linear": (
        unit.linear,
        (((5, 7, 16), 1.0), ((24, 16), 0.7)),
        (11.818351940894546, 10.91644317850258, 1.64450808901241),
        1e-9,
    ),
    "readout": (
        lambda x, w: unit.linear(x, w, readout=True),
        (((5, 7, 16), 1.0), ((24, 16), 0.7)),
        (2.9545879852236365, 8.913238531139157, 1.64450808901241),
        1e-9,
    ),
    "embedding": (
        lambda w: unit.embedding(INDEX, w),
        (((11, 8), 1.0),),
        (6.9876466220467846, 2.809298611224027),
        1e-9,
    ),
    "attention": (
        lambda q, k, v: unit.attention(q, k, v, causal=False),
        (((2, 6, 8), 1.0), ((2, 6, 8), 0.7), ((2, 6, 8), 0.3)),
        (2.5170673404179884, 0.2542476498434992, 0.8586044776243102, 4.297934145884348),
        1e-9,
    ),
    "sharp attention": (
        lambda q, k, v: unit.attention(q, k, v, 4.0, causal=False),
        (((2, 6, 8), 1.0), ((2, 6, 8), 0.7), ((2, 6, 8), 0.3)),
        (3.7161734375275737, 0.9230811193480003, 2.6346439097078846, 7.648187862967413),
        1e-9,
    ),
    "layer norm": (
        unit.layer_norm,
        (((3, 8), 1.0), ((8,), 0.7), ((8,), 0.3)),
        (4.562559670703861, 3.309959738981598, 3.011619375676924, 0.7859738009627308),
        1e-9,
    ),
    "rms norm": (
        unit.rms_norm,
        (((3, 8), 1.0), ((8,), 0.7)),
        (3.6104129737292388, 3.615944149612079, 3.0340558731682528),
        1e-6,  # the package takes the root in single precision
    ),
    "residual": (
        lambda x: unit.residual(torch.tanh, x, 0.3),
        (((3, 8), 1.0),),
        (4.21600629890843, 3.9661106851655545),
        1e-9,
    ),
    "cross-entropy": (
        lambda x: unit.cross_entropy(x, torch.arange(9) % 8, 2.0),
        (((9, 8), 1.0),),
        (2.538066456128938, 8.880882404828876),
        1e-9,
    ),
    # Here the package has a fitted interpolation and this one the exact second moment.
    "soft gate": (
        lambda x, g: unit.gated_silu(x, g, 0.5),
        (((40,), 1.0), ((40,), 0.7)),
        (3.161966968828122, 3.1542936509383273, 3.5780654752706473),
        0.01,
    ),
    "gate": (
        unit.gated_silu,
        (((40,), 1.0), ((40,), 0.7)),
        (3.0989756148556857, 3.0841990509365536, 3.635117562477031),
        0.01,
    ),
    "sharp gate": (
        lambda x, g: unit.gated_silu(x, g, 2.0),
        (((40,), 1.0), ((40,), 0.7)),
        (3.2067869689764277, 3.1845357212575816, 3.7920670432825427),
        0.01,
    ),
}


def wave(shape: tuple[int, ...], step: float) -> Any:
    count = torch.Size(shape).numel()
    return torch.sin(step * torch.arange(1, count + 1, dtype=torch.float64)).reshape(shape).requires_grad_()


@pytest.mark.parametrize("name", CASES)
def test_an_operation_is_that_of_the_package(name: str) -> None:
    made, inputs, expected, tolerance = CASES[name]
    given = [wave(shape, step) for shape, step in inputs]
    out = made(*given)
    weights = torch.cos(torch.arange(out.numel(), dtype=torch.float64)).reshape(out.shape)
    pulled = torch.autograd.grad((out * weights).sum(), given)
    assert [float(t.detach().norm()) for t in (out, *pulled)] == pytest.approx(list(expected), rel=tolerance)


def test_the_ratios_of_branches_are_those_of_the_package() -> None:
    assert unit.residual_ratios(3, 0.7, 1.5) == pytest.approx(
        [
            0.4755563543407303,
            0.2863111409411412,
            0.41287737069442587,
            0.2544193274646849,
            0.36984672568008214,
            0.2312549545946132,
        ]
    )
