"""K-FAC: a natural-gradient step whose curvature is, for every layer, a Kronecker product of what comes in and what flows back.

*Use when*: a network of linear layers and convolutions is to be trained in few steps, each of which may cost several of SGD's;
``scaling.plan("second-order", ...)`` has rates and damping that hold for every width.
*Do not use when*: layers share weights, or a step must be cheap. Normalizations and embeddings are another optimizer's.
*Paper*: Martens and Grosse 2015, arXiv:1503.05671 (sections 3, 5 and 6.3); for convolutions Grosse and Martens 2016,
arXiv:1602.01407 (theorem 1); damping by traces: Ishikawa and Karakida 2023, arXiv:2312.12226, section 4.2
*Differs*: a layer's matrix and its bias are two blocks instead of one, since in one block the bias's share of a step falls with
the width. By default the factors are of the loss's own gradients (the empirical Fisher matrix); with ``fisher="sampled"`` of
targets that the model draws, as in the paper. No adaptive damping, rate or momentum: all three are settings.
*Cost*: for a layer of m outputs and n inputs, m^2 + n^2 numbers twice; every ``every`` steps two eigendecompositions.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from tunewright.errors import ConfigError
from tunewright.optim.base import Nonfinite, require
from tunewright.optim.checked import restore, usable

Damping = Literal["trace", "martens", "relative"]
Fisher = Literal["empirical", "sampled"]


class Kfac(torch.optim.Optimizer):
    """Preconditions the gradient of every linear layer and convolution by Kronecker factors of its curvature.

    Factors are gathered in backward passes of the model in training mode, for losses that are means over examples.

    Args:
        params: As for ``torch.optim``; all of layers of ``model``.
        model: Whose layers are watched, from now until ``close``.
        lr: Step size.
        momentum: Weight of the last step in the next.
        eps: The damping: what is added to the curvature. For a layer with factors A (of inputs) and B (of gradients) the square
            root of it, times pi, is added to the diagonal of A, and over pi to that of B.
        weight_decay: Per step and unit of step size, decoupled.
        beta: Memory of the factors' averages.
        damping: pi squared is, for ``trace``, the trace of A over that of B; for ``martens`` the mean eigenvalue of A over that
            of B. For ``relative`` the root of ``eps`` is multiplied by either trace instead and so has no unit.
        fisher: ``empirical``, or ``sampled``: then factors come from backward passes under ``curvature()`` alone.
        every: Steps between two eigendecompositions.
        nonfinite: See ``tunewright.optim.base.Rule``.

    Raises:
        ConfigError: If a setting is out of range, or a parameter is no weight or bias of a layer that K-FAC is made for.

    Example:
        With sampled targets::

            optimizer = Kfac(model.parameters(), model, fisher="sampled")
            scores = model(x)
            drawn = torch.distributions.Categorical(logits=scores.detach()).sample()
            with optimizer.curvature():
                cross_entropy(scores, drawn).backward(retain_graph=True)
            optimizer.zero_grad()
            cross_entropy(scores, y).backward()
            optimizer.step()
    """

    NEEDS = "gradient"

    def __init__(
        self,
        params: Any,
        model: nn.Module,
        lr: float = 0.03,
        momentum: float = 0.9,
        eps: float = 1e-2,
        weight_decay: float = 0.0,
        *,
        beta: float = 0.95,
        damping: Damping = "trace",
        fisher: Fisher = "empirical",
        every: int = 1,
        nonfinite: Nonfinite = "skip",
    ) -> None:
        require(lr >= 0, f"lr must be at least 0; got {lr}. Take 0.03.")
        require(0 <= momentum < 1, f"momentum must lie in [0, 1); got {momentum}. Take 0.9.")
        require(eps > 0, f"eps must be above 0; got {eps}. Take 0.01.")
        require(weight_decay >= 0, f"weight_decay must be at least 0; got {weight_decay}. Take 0.")
        require(0 <= beta < 1, f"beta must lie in [0, 1); got {beta}. Take 0.95.")
        require(every >= 1, f"every must be at least 1 step; got {every}. Take 1.")
        for name, value, known in (
            ("damping", damping, Damping),
            ("fisher", fisher, Fisher),
            ("nonfinite", nonfinite, Nonfinite),
        ):
            listed = get_args(known)
            require(value in listed, f"{name} must be one of {', '.join(listed)}; got {value!r}.")
        rates = {"lr": lr, "momentum": momentum, "eps": eps, "weight_decay": weight_decay}
        own = {"beta": beta, "damping": damping, "every": every}
        super().__init__(params, {**rates, **own, "nonfinite": nonfinite, "skipped": 0})
        self._layers = self._found(model)
        self._book = _Book(frozenset(self._layers), always=fisher == "empirical")
        self._handles = [m.register_forward_hook(_Watch(weakref.ref(self._book))) for m in self._layers]

    @property
    def skipped(self) -> int:
        """Steps that were left out because of gradients that are no finite numbers."""
        return int(self.param_groups[0]["skipped"])

    @contextmanager
    def curvature(self) -> Iterator[None]:
        """Backward passes within it give the factors, of ``fisher="sampled"``; the gradients that they leave are to be cleared."""
        self._book.drawing = True
        try:
            yield
        finally:
            self._book.drawing = False

    def close(self) -> None:
        """Stops watching the model."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step.

        Args:
            closure: Computes the loss anew with its gradients and returns it.

        Returns:
            What the closure returned, or None.

        Raises:
            ConfigError: If a gradient is sparse, or no backward pass has shown the curvature of a layer that has a gradient.
            Diverged: If a gradient is not finite and ``nonfinite="raise"``.
        """
        returned = None
        if closure is not None:
            with torch.enable_grad():
                returned = closure()
        seen, self._book.seen = self._book.seen, {}
        used = [p for g in self.param_groups for p in g["params"] if p.grad is not None]
        if not usable(self, used):
            return returned
        groups = {p: g for g in self.param_groups for p in g["params"]}
        for module, names in self._layers.items():
            ours = [p for p in (getattr(module, n) for n in names) if p in groups and p.grad is not None]
            if not ours:
                continue
            # Factors are kept with the matrix, or with the bias where only that is trained.
            factors = self.state[getattr(module, names[0])]
            self._learn(factors, seen.get(module), groups[ours[0]], type(module).__name__)
            for p in ours:
                _move(p, factors, groups[p], self.state[p])
        return returned

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores what ``state_dict`` gave, in the precision that it was kept in."""
        super().load_state_dict(state_dict)
        restore(self, state_dict)

    def _found(self, model: nn.Module) -> dict[nn.Module, list[str]]:
        """The layers that our parameters are of, each with the names of those."""
        listed = {p for g in self.param_groups for p in g["params"]}
        owners = [
            (m, n, p) for m in model.modules() for n, p in m.named_parameters(recurse=False) if p in listed
        ]
        counted = Counter(p for _, _, p in owners)
        left = set(listed)
        out: dict[nn.Module, list[str]] = {}
        for module, name, p in owners:
            if not isinstance(module, nn.Linear | nn.Conv2d):
                continue
            if counted[p] > 1:
                raise ConfigError(
                    f"Every layer must have weights of its own under K-FAC; a {type(module).__name__} shares its {name}. Give it to "
                    "another optimizer."
                )
            if isinstance(module, nn.Conv2d) and (module.groups > 1 or isinstance(module.padding, str)):
                raise ConfigError(
                    f"K-FAC is for convolutions with one group and padding in numbers; got groups={module.groups}, "
                    f"padding={module.padding!r}. Change it, or give its weights to another optimizer."
                )
            out.setdefault(module, []).append(name)
            left.discard(p)
        if left:
            raise ConfigError(
                "Every parameter must be of a torch.nn.Linear or Conv2d of the model; got others, the first of shape "
                f"{tuple(next(p for g in self.param_groups for p in g['params'] if p in left).shape)}. Give them to another "
                "optimizer."
            )
        return out

    def _learn(self, state: dict[str, Any], seen: _Seen | None, group: dict[str, Any], layer: str) -> None:
        """Takes what backward passes have shown into a layer's averages, and decomposes them when it is time."""
        taken = state.setdefault("taken", 0)
        if seen is not None:
            for name, found in (("inputs", seen.inputs()), ("outputs", seen.outputs())):
                old = state.get(name)
                state[name] = found if old is None else old.lerp_(found, 1 - group["beta"])
            state["places"] = seen.places
        elif "inputs" not in state:
            raise ConfigError(
                f"K-FAC must see a backward pass of every layer before it steps; it saw none of a {layer}. Train the model in "
                "training mode, and with fisher='sampled' call backward() within optimizer.curvature()."
            )
        if taken % group["every"] == 0:
            for name in ("inputs", "outputs"):
                values, vectors = torch.linalg.eigh(state[name])
                state[f"{name}_values"], state[f"{name}_vectors"] = values.clamp(min=0), vectors
        state["taken"] = taken + 1


class _Book:
    """What backward passes have shown since the last step, and whether the next one counts."""

    def __init__(self, layers: frozenset[nn.Module], *, always: bool) -> None:
        self.layers, self.always, self.drawing = layers, always, False
        self.seen: dict[nn.Module, _Seen] = {}


class _Watch:
    """A hook that writes a layer's inputs and the gradient of its outputs into the book, as long as there is one."""

    def __init__(self, book: weakref.ref[_Book]) -> None:
        self.book = book

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        book = self.book()
        if book is None or module not in book.layers or not module.training or not output.requires_grad:
            return
        inputs = args[0].detach()

        def see(gradient: Tensor) -> None:
            if book.always or book.drawing:
                book.seen.setdefault(module, _Seen()).add(module, inputs, gradient)

        output.register_hook(see)


class _Seen:
    """Sums of outer products over backward passes since the last step."""

    def __init__(self) -> None:
        self.a: Tensor | None = None
        self.b: Tensor | None = None
        self.examples = 0
        self.places = 1

    def add(self, module: nn.Module, inputs: Tensor, gradient: Tensor) -> None:
        """Takes in a batch."""
        rows, flows = _rows(module, inputs), _flows(module, gradient)
        a, b = rows.T @ rows, flows.T @ flows
        self.a = a if self.a is None else self.a + a
        self.b = b if self.b is None else self.b + b
        examples = gradient.shape[0] if gradient.dim() > 1 else 1
        self.examples += examples
        self.places = max(1, flows.shape[0] // max(1, examples))

    def inputs(self) -> Tensor:
        """Mean over examples, sum over places."""
        assert self.a is not None
        return self.a / self.examples

    def outputs(self) -> Tensor:
        """Mean over examples and places, of gradients of an example's own loss."""
        assert self.b is not None
        return self.b * (self.examples / self.places)


def _rows(module: nn.Module, inputs: Tensor) -> Tensor:
    """What every place of every example puts into the layer: shape ``(n * places, fan-in)``."""
    exact = inputs if inputs.dtype == torch.float64 else inputs.float()
    if isinstance(module, nn.Conv2d):
        assert not isinstance(module.padding, str)
        patches = nn.functional.unfold(
            exact, module.kernel_size, module.dilation, module.padding, module.stride
        )
        return patches.transpose(1, 2).reshape(-1, patches.shape[1])
    return exact.reshape(-1, exact.shape[-1])


def _flows(module: nn.Module, gradient: Tensor) -> Tensor:
    """Gradients of the outputs: shape ``(n * places, fan-out)``."""
    exact = gradient if gradient.dtype == torch.float64 else gradient.float()
    if isinstance(module, nn.Conv2d):
        return exact.flatten(2).transpose(1, 2).reshape(-1, exact.shape[1])
    return exact.reshape(-1, exact.shape[-1])


def damped(state: dict[str, Any], eps: float, how: Damping, *, bias: bool = False) -> tuple[Tensor, Tensor]:
    """Eigenvalues of a layer's factors with what is added to them.

    Args:
        state: With ``inputs_values`` of shape ``(n,)``, ``outputs_values`` of shape ``(m,)``, and ``places``, how many an example
            has (1 by default).
        eps: See ``Kfac``.
        how: See ``Kfac``.
        bias: Whether the inputs are the constant 1, whose factor is the number of places.

    Returns:
        Those of the inputs' factor and those of the outputs'.
    """
    a, b = state["inputs_values"], state["outputs_values"]
    if bias:
        a = torch.full_like(a[:1], state.get("places", 1))
    # A layer that got no gradient yet has no trace; anything finite will do, since its step is zero.
    tiny = torch.finfo(a.dtype).tiny
    mass_a, mass_b = a.sum().clamp(min=tiny), b.sum().clamp(min=tiny)
    if how == "relative":
        return a + eps**0.5 * mass_a, b + eps**0.5 * mass_b
    if how == "martens":
        mass_a, mass_b = mass_a / len(a), mass_b / len(b)
    pi = mass_a.sqrt() / mass_b.sqrt()
    return a + eps**0.5 * pi, b + eps**0.5 / pi


def _move(p: Tensor, factors: dict[str, Any], group: dict[str, Any], state: dict[str, Any]) -> None:
    """One step of a layer's matrix or of its bias."""
    assert p.grad is not None
    left = factors["outputs_vectors"]
    bias = p.dim() == 1
    a, b = damped(factors, group["eps"], group["damping"], bias=bias)
    gradient = p.grad.reshape(p.shape[0], -1).to(left.dtype)
    if bias:
        move = left @ ((left.T @ gradient) / (b[:, None] * a))
    else:
        right = factors["inputs_vectors"]
        move = left @ ((left.T @ gradient @ right) / (b[:, None] * a[None, :])) @ right.T
    if group["momentum"]:
        before = state.get("last")
        state["last"] = move = move if before is None else before.mul_(group["momentum"]).add_(move)
    p.mul_(1 - group["lr"] * group["weight_decay"])
    p.add_(move.reshape(p.shape), alpha=-group["lr"])
