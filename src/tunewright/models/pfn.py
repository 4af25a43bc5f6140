"""The learning-curve network: a small transformer that has learned to predict curves from the curves in its context.

One forward pass in NumPy gives the distribution of the loss of many configurations at many later steps, given all that
was seen in a study: no fitting, no hyperparameters. The weights ship with the package.

*Paper*: Rakotoarison, Adriaensen, Mallik, Garibov, Bergman and Hutter 2024 (ICML, arXiv:2404.16795), FT-PFN, Section 4.1;
the bar distribution is that of Müller, Hollmann, Pineda Arango, Grabocka and Hutter 2022 (ICLR, arXiv:2112.10510),
Section 4.

*Differs*: a token is a whole curve rather than one observation, so a study of 300 curves is 300 tokens however long they
are; the bars have, besides free logits, the mass of a few normal peaks placed relative to the curve's last loss; losses
are squashed about the best one seen (``curve_tokens.Scale``); 0.9 million weights instead of 14.7 million.

*Cost*: O(n^2) for a context of n curves, O(n q) for q questions.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tunewright.models.tensors import read_tensors

Single = NDArray[np.float32]
Array = NDArray[np.float64]

WEIGHTS = "curve_network.safetensors"
NEW = 0.7
_HEADS = 4
_EPSILON = 1e-5


@dataclass(frozen=True, slots=True)
class Bars:
    """Distributions over [0, 1] that are constant on each bar.

    Attributes:
        mass: Probability of each bar, shape ``(q, k)``; rows sum to one.
        borders: Increasing from 0 to 1, shape ``(k + 1,)``.
    """

    mass: Array
    borders: Array

    @property
    def mean(self) -> Array:
        """Expected values, shape ``(q,)``."""
        out: Array = self.mass @ (0.5 * (self.borders[1:] + self.borders[:-1]))
        return out

    def below(self, y: Array | float) -> Array:
        """P(value < y), shape ``(q,)``.

        Args:
            y: In [0, 1]; one for all or shape ``(q,)``.
        """
        y = np.broadcast_to(np.asarray(y, dtype=np.float64), self.mass.shape[:1])
        share = np.clip((y[:, None] - self.borders[:-1]) / np.diff(self.borders), 0.0, 1.0)
        out: Array = np.clip((self.mass * share).sum(axis=1), 0.0, 1.0)
        return out

    def quantile(self, p: float) -> Array:
        """Values below which a share p lies, shape ``(q,)``.

        Args:
            p: Between 0 and 1.
        """
        total = np.cumsum(self.mass, axis=1)
        bar = np.minimum((total < p).sum(axis=1), self.mass.shape[1] - 1)
        rows = np.arange(len(bar))
        inside = self.mass[rows, bar]
        share = (p - (total[rows, bar] - inside)) / np.maximum(inside, 1e-300)
        out: Array = self.borders[bar] + np.clip(share, 0.0, 1.0) * np.diff(self.borders)[bar]
        return out

    def log_density(self, y: Array) -> Array:
        """Log densities at values in [0, 1], shape ``(q,)``."""
        bar = np.clip(np.searchsorted(self.borders, y, side="right") - 1, 0, self.mass.shape[1] - 1)
        inside = self.mass[np.arange(len(bar)), bar]
        out: Array = np.log(np.maximum(inside, 1e-300)) - np.log(np.diff(self.borders)[bar])
        return out


class Memory(NamedTuple):
    """What questions attend to: keys ``(h, w, n)`` and values ``(h, n, w)`` of each layer for n curves."""

    keys: tuple[Single, ...]
    values: tuple[Single, ...]


class _Layer(NamedTuple):
    """Weights of one layer, transposed for products from the right; queries are scaled already."""

    norm1: tuple[Single, Single]
    query: tuple[Single, Single]
    pair: tuple[Single, Single]
    join: tuple[Single, Single]
    norm2: tuple[Single, Single]
    up: tuple[Single, Single]
    down: tuple[Single, Single]


@dataclass(frozen=True, slots=True)
class CurveNetwork:
    """Weights, ready for inference.

    Attributes:
        first: Of the tokens.
        second: Of the tokens.
        layers: Attention and perceptrons.
        norm: Before the head.
        wide: First layer of the head.
        bars: Free logits.
        peaks: Shares, places and widths of the peaks.
        borders: Of the bars, shape ``(k + 1,)``.
        facts: What the file says about the training.
    """

    first: tuple[Single, Single]
    second: tuple[Single, Single]
    layers: tuple[_Layer, ...]
    norm: tuple[Single, Single]
    wide: tuple[Single, Single]
    bars: tuple[Single, Single]
    peaks: tuple[Single, Single]
    borders: Array
    facts: dict[str, str]

    @classmethod
    def of(cls, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, str]) -> CurveNetwork:
        """From arrays by name, as the training script stores them.

        Args:
            arrays: Weights and offsets, and ``borders``.
            facts: What the training says about itself.
        """

        def linear(name: str, scale: float = 1.0) -> tuple[Single, Single]:
            weight = np.ascontiguousarray(arrays[f"{name}.weight"].astype(np.float32).T * np.float32(scale))
            return weight, arrays[f"{name}.bias"].astype(np.float32) * np.float32(scale)

        def norm(name: str) -> tuple[Single, Single]:
            return arrays[f"{name}.weight"].astype(np.float32), arrays[f"{name}.bias"].astype(np.float32)

        width = arrays["norm.weight"].shape[0]
        count = 1 + max(int(k.split(".")[1]) for k in arrays if k.startswith("layers."))
        layers = []
        for i in range(count):
            at = f"layers.{i}."
            layers.append(
                _Layer(
                    norm(at + "norm1"),
                    linear(at + "query", (width / _HEADS) ** -0.5),
                    linear(at + "pair"),
                    linear(at + "join"),
                    norm(at + "norm2"),
                    linear(at + "up"),
                    linear(at + "down"),
                )
            )
        ends = (linear("wide"), linear("bars"), linear("peaks"))
        borders = arrays["borders"].astype(np.float64)
        return cls(
            linear("first"), linear("second"), tuple(layers), norm("norm"), *ends, borders, dict(facts)
        )

    def remember(self, context: Single) -> Memory:
        """Reads the curves seen.

        Args:
            context: Tokens, shape ``(n, TOKEN)``, n >= 1.
        """
        x = self._embedded(context)
        keys, values = [], []
        for i, layer in enumerate(self.layers):
            h = _normed(x, layer.norm1)
            pair = _linear(h, layer.pair).reshape(len(x), 2, _HEADS, -1)
            keys.append(np.ascontiguousarray(pair[:, 0].transpose(1, 2, 0)))
            values.append(np.ascontiguousarray(pair[:, 1].transpose(1, 0, 2)))
            if i + 1 < len(self.layers):
                x = _advanced(x, h, layer, keys[-1], values[-1])
        return Memory(tuple(keys), tuple(values))

    def predict(self, memory: Memory, query: Single, anchor: Array) -> Bars:
        """Distributions of squashed losses.

        Args:
            memory: What was seen.
            query: Tokens of questions, shape ``(q, TOKEN)``.
            anchor: Last squashed loss of each curve, ``NEW`` of new ones, shape ``(q,)``.
        """
        x = self._embedded(query)
        for layer, keys, values in zip(self.layers, memory.keys, memory.values, strict=True):
            x = _advanced(x, _normed(x, layer.norm1), layer, keys, values)
        h = _relu(_linear(_normed(x, self.norm), self.wide))
        logits = _linear(h, self.bars) + self._peaks(_linear(h, self.peaks), anchor.astype(np.float32))
        logits -= logits.max(axis=1, keepdims=True)
        mass = np.exp(logits.astype(np.float64))
        mass /= mass.sum(axis=1, keepdims=True)
        return Bars(mass, self.borders)

    def _embedded(self, x: Single) -> Single:
        return _linear(_relu(_linear(x, self.first)), self.second)

    def _peaks(self, raw: Single, anchor: Single) -> Single:
        """Log mass of the bars under the normal peaks, up to a constant, shape ``(q, k)``."""
        borders = self.borders.astype(np.float32)
        width, middle = np.diff(borders), 0.5 * (borders[1:] + borders[:-1])
        share, shift, spread = raw.reshape(len(raw), 3, -1).transpose(1, 0, 2)
        centre = anchor[:, None] + np.float32(0.1) * shift
        variance = np.exp(2.0 * np.clip(spread, -4.0, 4.0) - 7.0)[..., None] + 0.25 * width**2
        log_share = share - share.max(axis=1, keepdims=True)
        log_share -= np.log(np.exp(log_share).sum(axis=1, keepdims=True))
        part = -0.5 * ((middle - centre[..., None]) ** 2 / variance + np.log(variance)) + log_share[..., None]
        top = part.max(axis=1)
        out: Single = top + np.log(np.exp(part - top[:, None]).sum(axis=1)) + np.log(width)
        return out


def _linear(x: Single, weights: tuple[Single, Single]) -> Single:
    out: Single = x @ weights[0]
    out += weights[1]
    return out


def _relu(x: Single) -> Single:
    out: Single = np.maximum(x, np.float32(0.0))
    return out


def _normed(x: Single, weights: tuple[Single, Single]) -> Single:
    h = x - x.mean(axis=1, keepdims=True)
    h /= np.sqrt((h * h).mean(axis=1, keepdims=True) + np.float32(_EPSILON))
    out: Single = h * weights[0] + weights[1]
    return out


def _advanced(x: Single, h: Single, layer: _Layer, keys: Single, values: Single) -> Single:
    """A layer's output for tokens ``x``, whose normalised form is ``h``."""
    query = _linear(h, layer.query).reshape(len(x), _HEADS, -1).transpose(1, 0, 2)
    score = query @ keys
    score -= score.max(axis=2, keepdims=True)
    np.exp(score, out=score)
    mixed = (score @ values) / score.sum(axis=2, keepdims=True)
    x = x + _linear(mixed.transpose(1, 0, 2).reshape(len(x), -1), layer.join)
    out: Single = x + _linear(_relu(_linear(_normed(x, layer.norm2), layer.up)), layer.down)
    return out


@functools.cache
def curve_network() -> CurveNetwork:
    """The network that ships with the package, read once."""
    data = resources.files("tunewright.models").joinpath(WEIGHTS).read_bytes()
    return CurveNetwork.of(*read_tensors(data))
