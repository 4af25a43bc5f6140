"""Hyperparameters of a Gaussian process over a growing study: found anew at a growing interval, from the log alone.

*Use when* a sampler asks again and again with a few more trials. *Do not use when* a process is fitted once.

*Differs*: nothing carries over from one fit to the next, so that any process finds the same ones at the same trial.

*Cost*: one ``gp.tune`` per interval, a tenth of the trials once there are 30.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tunewright.models import gp

FloatArray = NDArray[np.float64]
Memo = dict[tuple[bytes, bytes], gp.Hyper]

_DENSE = 30
_GROWTH = 1.1


def tuning_size(n: int) -> int:
    """How many of ``n`` trials hyperparameters are found on: all at first, then in steps of a tenth."""
    size = min(n, _DENSE)
    while size >= _DENSE and (larger := int(np.ceil(size * _GROWTH))) <= n:
        size = larger
    return size


def hyper_of(
    memo: Memo, columns: gp.Columns, x: FloatArray, values: FloatArray, *, warped: bool = False
) -> gp.Hyper:
    """The hyperparameters for a study's trials in order.

    Args:
        memo: Remembers the last ones found; a cache.
        columns: The embedding.
        x: Rows of codes, in order of the trials, shape ``(n, d)``.
        values: Losses, or with ``warped`` values on the scale of the process, shape ``(n,)``.
        warped: Whether ``values`` need no warping.
    """
    size = tuning_size(len(values))
    x, values = x[:size], values[:size]
    key = (x.tobytes(), values.tobytes())
    if key not in memo:
        few = (x[-gp.MAX_TUNING :], values[-gp.MAX_TUNING :]) if warped else gp.for_tuning(x, values)
        memo.clear()
        memo[key] = gp.tune(columns, *few)
    return memo[key]
