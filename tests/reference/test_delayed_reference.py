"""Round lengths against the recurrence of the paper, worked out by hand."""

from __future__ import annotations

import pytest

from tunewright.samplers.delayed import round_length


@pytest.mark.parametrize(
    ("number", "length"),
    # Li and Scarlett 2022, arXiv:2110.08393, Algorithm 1, T = 1000: N_1 = ceil(sqrt(1000)) = 32,
    # ceil(sqrt(32000)) = 179, ceil(sqrt(179000)) = 424, ceil(sqrt(424000)) = 652.
    [(0, 32), (1, 179), (2, 424), (3, 652)],
)
def test_rounds_grow_as_in_the_paper(number: int, length: int) -> None:
    assert round_length(number, 1000) == length
