"""Laws fitted to a table of runs, whatever columns it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tunewright.errors import ConfigError
from tunewright.scaling.laws.fit import Fit
from tunewright.scaling.laws.fitting import fit_loss, fit_power
from tunewright.scaling.laws.law import BATCH, BATCH_SIZE, FLOPS, LEARNING_RATE, PARAMS, TOKENS

_INPUTS = ("params", "tokens", "flops")
KNOWN = frozenset({*_INPUTS, "loss", "lr", "batch"})
"""Columns that are read; others are left alone."""
_UNITS = {"params": PARAMS, "tokens": TOKENS, "flops": FLOPS, "batch": BATCH}


def fit_columns(columns: Mapping[str, Sequence[float]], *, drop_diverged: bool = False) -> list[Fit]:
    """Every law that the columns suffice for.

    With ``params``, ``tokens`` and ``loss`` a law of the loss. With ``lr`` or ``batch`` next to any of ``params``, ``tokens`` and
    ``flops``, but without a loss, each row is taken for the optimum at a size and gives a power law.

    Args:
        columns: Values per run by name.
        drop_diverged: As in ``fit_loss``.

    Raises:
        ConfigError: If the columns suffice for no law, or a fit refuses.
    """
    if {"params", "tokens", "loss"} <= set(columns):
        return [fit_loss(columns["params"], columns["tokens"], columns["loss"], drop_diverged=drop_diverged)]
    given = {k: columns[k] for k in _INPUTS if k in columns}
    targets = {"lr": (LEARNING_RATE, "peak learning rate"), "batch": (BATCH_SIZE, "tokens per step")}
    if "loss" in columns or not given or not targets.keys() & columns.keys():
        raise ConfigError(
            f"A table must have params, tokens and loss, or lr or batch (the best ones) beside params, tokens or flops; "
            f"got {sorted(columns)}. Rename or add columns."
        )
    return [
        fit_power(
            columns[t],
            given,
            name=f"my-{t}",
            output=output,
            unit=unit,
            units=_UNITS,
            drop_diverged=drop_diverged,
        )
        for t, (output, unit) in targets.items()
        if t in columns
    ]
