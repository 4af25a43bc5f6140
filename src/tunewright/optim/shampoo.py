"""Shampoo: every matrix is stepped by its gradient between two roots, of what its rows and of what its columns have seen.

*Use when*: matrices are small enough for eigendecompositions (a side of a few hundred to a few thousand) and their gradients are
correlated, so that Adam, which sees single weights, needs many steps; ``scaling.plan("second-order", ...)`` has rates that hold
for every width.
*Do not use when*: a step must cost what SGD's costs, or most weights are in embeddings.
*Paper*: Gupta, Koren and Singer 2018, ICML, arXiv:1802.09568 (Algorithm 1; for vectors Algorithm 2 with one mode)
*Differs*: tensors of more than two dimensions (convolutions) are seen as matrices of outputs by everything else. The sums may be
averages (``beta`` below 1). Sides longer than ``largest`` keep a diagonal. Weight decay is decoupled.
*Cost*: a matrix of m by n keeps m^2 + n^2 numbers twice; every ``every`` steps eigendecompositions of O(m^3 + n^3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from tunewright.optim.base import Nonfinite, require
from tunewright.optim.checked import restore, usable


class Shampoo(torch.optim.Optimizer):
    """Preconditions rows and columns of every gradient.

    Args:
        params: As for ``torch.optim``.
        lr: Step size. The first step of a matrix whose gradient has rank r has the Frobenius norm ``lr * r**0.5``, whatever the
            gradient's size.
        momentum: Weight of the last step in the next.
        eps: What both sums start at, in squared units of the gradient.
        exponent: Of the inverse roots on either side of a matrix; a vector, which has one side, has twice that.
        beta: 1 sums squares over all steps, as the paper does; below 1 it is their average's memory.
        weight_decay: Per step and unit of step size, decoupled.
        every: Steps between two computations of the roots. Above 1 a rate must be small, or warmed up, while the roots are those of
            a few gradients: other directions are then magnified by up to ``eps**-0.5``.
        largest: Longest side with a full sum.
        nonfinite: See ``tunewright.optim.base.Rule``.

    Raises:
        ConfigError: If a setting is out of range.
    """

    NEEDS = "gradient"

    def __init__(
        self,
        params: Any,
        lr: float = 0.1,
        momentum: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        exponent: float = 0.25,
        beta: float = 1.0,
        every: int = 1,
        largest: int = 2048,
        nonfinite: Nonfinite = "skip",
    ) -> None:
        require(lr >= 0, f"lr must be at least 0; got {lr}. Take 0.1.")
        require(0 <= momentum < 1, f"momentum must lie in [0, 1); got {momentum}. Take 0.9.")
        require(eps > 0, f"eps must be above 0; got {eps}. Take 1e-6.")
        require(weight_decay >= 0, f"weight_decay must be at least 0; got {weight_decay}. Take 0.")
        require(0 < exponent <= 0.5, f"exponent must lie in (0, 0.5]; got {exponent}. Take 0.25.")
        require(0 < beta <= 1, f"beta must lie in (0, 1]; got {beta}. Take 1.")
        require(every >= 1, f"every must be at least 1 step; got {every}. Take 1.")
        require(largest >= 1, f"largest must be at least 1; got {largest}. Take 2048.")
        require(
            nonfinite in ("skip", "raise", "ignore"),
            f"nonfinite must be 'skip', 'raise' or 'ignore'; got {nonfinite!r}. Pass one of them.",
        )
        rates = {"lr": lr, "momentum": momentum, "eps": eps, "weight_decay": weight_decay}
        own = {"exponent": exponent, "beta": beta, "every": every, "largest": largest}
        super().__init__(params, {**rates, **own, "nonfinite": nonfinite, "skipped": 0})

    @property
    def skipped(self) -> int:
        """Steps that were left out because of gradients that are no finite numbers."""
        return int(self.param_groups[0]["skipped"])

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step.

        Args:
            closure: Computes the loss anew with its gradients and returns it.

        Returns:
            What the closure returned, or None.

        Raises:
            ConfigError: If a gradient is sparse.
            Diverged: If a gradient is not finite and ``nonfinite="raise"``.
        """
        returned = None
        if closure is not None:
            with torch.enable_grad():
                returned = closure()
        used = [p for g in self.param_groups for p in g["params"] if p.grad is not None]
        if not usable(self, used):
            return returned
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None and p.numel():
                    self._moved(group, p)
        return returned

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores what ``state_dict`` gave, in the precision that it was kept in."""
        super().load_state_dict(state_dict)
        restore(self, state_dict)

    def _moved(self, group: dict[str, Any], p: Tensor) -> None:
        """One step of one tensor."""
        assert p.grad is not None
        exact = torch.float64 if p.dtype == torch.float64 else torch.float32
        vector = p.dim() < 2
        gradient = p.grad.reshape(-1, 1) if vector else p.grad.reshape(p.shape[0], -1)
        gradient = gradient.to(exact)
        state = self.state[p]
        sides = ("rows",) if vector else ("rows", "columns")
        taken = state.setdefault("taken", 0)
        state["taken"] = taken + 1
        for side in sides:
            self._see(group, state, side, gradient if side == "rows" else gradient.T)
            if taken % group["every"] == 0:
                power = -group["exponent"] * (2 if vector else 1)
                state[f"{side}_root"] = inverse_root(state[side], power, group["eps"])
        move = _times(state["rows_root"], gradient)
        if not vector:
            move = _times(state["columns_root"], move.T).T
        if group["momentum"]:
            before = state.get("last")
            state["last"] = move = move if before is None else before.mul_(group["momentum"]).add_(move)
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.add_(move.reshape(p.shape), alpha=-group["lr"])

    def _see(self, group: dict[str, Any], state: dict[str, Any], side: str, gradient: Tensor) -> None:
        """Adds a gradient of shape ``(m, n)`` to the sum over its rows: a matrix, or its diagonal if m is large."""
        m, beta = gradient.shape[0], group["beta"]
        full = m <= group["largest"]
        if side not in state:
            state[side] = gradient.new_zeros(m, m) if full else gradient.new_zeros(m)
        found = gradient @ gradient.T if full else gradient.square().sum(dim=1)
        state[side].mul_(beta).add_(found, alpha=1 - beta if beta < 1 else 1.0)


def inverse_root(matrix: Tensor, power: float, eps: float) -> Tensor:
    """A power of a symmetric matrix with ``eps`` on its diagonal.

    Args:
        matrix: Shape ``(m, m)``, positive semidefinite; or ``(m,)``, a diagonal.
        power: Below 0.
        eps: Above 0.

    Returns:
        The same shape.
    """
    if matrix.dim() == 1:
        diagonal: Tensor = (matrix + eps) ** power
        return diagonal
    values, vectors = torch.linalg.eigh(matrix)
    # Rounding makes eigenvalues of zero a little negative.
    out: Tensor = (vectors * (values.clamp(min=0) + eps) ** power) @ vectors.T
    return out


def _times(root: Tensor, matrix: Tensor) -> Tensor:
    return root @ matrix if root.dim() == 2 else root[:, None] * matrix
