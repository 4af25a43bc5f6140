"""Trains the learning-curve network of ``tunewright.models.pfn`` on curves drawn from ``models.curve_prior``.

``python -m training.curve_network --seed 0 --batches 30000 --decay 10000 --out weights.safetensors`` gives the same
weights wherever the arithmetic is the same. With ``--minutes`` in place of the numbers of batches the clock ends both
phases, and the numbers are written beside the weights. Needs ``tunewright[torch]``; one core is enough.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from tunewright.models.curve_prior import DIMENSIONS, Histories, draw_histories
from tunewright.models.curve_tokens import (
    LAST,
    TOKEN,
    picked_regular,
    scale_of,
    summary_of,
    tokens,
)
from tunewright.models.tensors import read_tensors, write_tensors

WIDTH, LAYERS, HEADS, HIDDEN = 128, 6, 4, 256
BARS, PEAKS = 160, 3
TOKENS_PER_BATCH = 2400
QUERIES = 64
WARMUP = 500
RATE = 1.5e-3


@dataclass(frozen=True, slots=True)
class Batch:
    """Inputs and targets of one step.

    Attributes:
        context: Tokens of curves, shape ``(b, n, TOKEN)``.
        query: Tokens of questions, shape ``(b, k, TOKEN)``.
        anchor: Last squashed loss of each asked curve, 0.7 of a new one, shape ``(b, k)``.
        target: Squashed losses, shape ``(b, k)``.
    """

    context: NDArray[np.float32]
    query: NDArray[np.float32]
    anchor: NDArray[np.float32]
    target: NDArray[np.float32]


def draw_batch(rng: np.random.Generator, *, calm: bool = False) -> Batch:
    """Draws the size of the studies, their number, and the studies, of which ``calm`` is told to the prior."""
    n = int(np.exp(rng.uniform(0.0, np.log(160.0))))
    steps = int(np.exp(rng.uniform(np.log(4.0), np.log(101.0))))
    d = int(rng.integers(1, 11) if rng.random() < 0.8 else rng.integers(11, DIMENSIONS + 1))
    count = max(4, TOKENS_PER_BATCH // (n + QUERIES))
    return encoded(draw_histories(rng, count, n, QUERIES, steps, d, calm=calm))


def encoded(histories: Histories) -> Batch:
    """Histories as the network sees them."""
    h, n = histories, histories.n
    t = h.losses.shape[-1]
    raw = picked_regular(h.losses, h.seen)
    scale = scale_of(raw[:, :n])
    picks = scale.squashed(raw)
    summary = summary_of(picks[:, :n])
    part = h.seen / t
    context = tokens(h.codes[:, :n], picks[:, :n], part[:, :n], h.seen[:, :n].astype(np.float64), summary)
    codes, asked = (np.take_along_axis(a, h.rows[..., None], axis=1) for a in (h.codes, picks))
    seen = np.take_along_axis(h.seen, h.rows, axis=1)
    query = tokens(codes, asked, seen / t, seen.astype(np.float64), summary, h.steps / t)
    anchor = np.where(seen > 0, asked[..., LAST], 0.7)
    target = scale.squashed(h.targets[..., None])[..., 0]
    return Batch(context, query, anchor.astype(np.float32), target.astype(np.float32))


class Layer(nn.Module):
    """Attention of every token to the context, then a perceptron."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.query, self.pair = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 2 * WIDTH)
        self.join = nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, HIDDEN), nn.Linear(HIDDEN, WIDTH)

    def forward(self, x: Tensor, n: int) -> Tensor:
        """``x`` has the n tokens of the context first."""
        b, length, _ = x.shape
        h = self.norm1(x)
        q = self.query(h).view(b, length, HEADS, -1).transpose(1, 2)
        k, v = self.pair(h[:, :n]).view(b, n, 2, HEADS, -1).permute(2, 0, 3, 1, 4)
        # The backward pass of attention in half precision is five times slower than in single.
        with torch.autocast("cpu", enabled=False):
            mixed = functional.scaled_dot_product_attention(q.float(), k.float(), v.float())
        mixed = mixed.transpose(1, 2).reshape(b, length, WIDTH)
        x = x + self.join(mixed)
        out: Tensor = x + self.down(functional.relu(self.up(self.norm2(x))))
        return out


class CurveNetwork(nn.Module):
    """The network; ``tunewright.models.pfn`` computes the same in NumPy."""

    borders: Tensor

    def __init__(self, borders: NDArray[np.float64]) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(TOKEN, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.layers = nn.ModuleList([Layer() for _ in range(LAYERS)])
        self.norm = nn.LayerNorm(WIDTH)
        self.wide = nn.Linear(WIDTH, WIDTH)
        self.bars, self.peaks = nn.Linear(WIDTH, BARS), nn.Linear(WIDTH, 3 * PEAKS)
        self.register_buffer("borders", torch.tensor(borders, dtype=torch.float32))

    def forward(self, context: Tensor, query: Tensor, anchor: Tensor) -> Tensor:
        """Log probabilities of the bars, shape ``(b, k, BARS)``."""
        n = context.shape[1]
        x = self.second(functional.relu(self.first(torch.cat([context, query], dim=1))))
        for layer in self.layers:
            x = layer(x, n)
        h = functional.relu(self.wide(self.norm(x[:, n:])))
        return bar_logits(self.bars(h).float(), self.peaks(h).float(), anchor, self.borders).log_softmax(-1)


def bar_logits(free: Tensor, peaks: Tensor, anchor: Tensor, borders: Tensor) -> Tensor:
    """Free logits of the bars plus the log mass of normal peaks that are placed relative to the anchor."""
    width = borders.diff()
    middle = 0.5 * (borders[1:] + borders[:-1])
    share, shift, spread = peaks.view(*peaks.shape[:-1], 3, PEAKS).unbind(-2)
    centre = anchor[..., None] + 0.1 * shift
    variance = torch.exp(2.0 * spread.clamp(-4.0, 4.0) - 7.0)[..., None] + 0.25 * width**2
    density = -0.5 * ((middle - centre[..., None]) ** 2 / variance + torch.log(variance))
    mixed = torch.logsumexp(density + share.log_softmax(-1)[..., None], dim=-2)
    out: Tensor = free + mixed + torch.log(width)
    return out


def bar_borders(seed: int) -> NDArray[np.float64]:
    """Borders of the bars: quantiles of the prior's squashed losses, a tenth of them spread evenly."""
    rng = np.random.default_rng([seed, 1])
    values = np.concatenate([draw_batch(rng).target.ravel() for _ in range(100)])
    even = np.linspace(0.0, 1.0, max(2, len(values) // 9))
    out = np.quantile(np.concatenate([values, even]), np.linspace(0.0, 1.0, BARS + 1))
    out[0], out[-1] = 0.0, 1.0
    gap = 2e-4
    out = np.maximum.accumulate(out + gap * np.arange(BARS + 1))
    return np.asarray(out / out[-1])


def losses_of(network: CurveNetwork, batch: Batch) -> Tensor:
    """Minus the log density of squashed losses, shape ``(b, k)``."""
    context, query, anchor, target = (torch.from_numpy(a) for a in asdict(batch).values())
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=network.training):
        log_mass = network(context, query, anchor)
    bar = torch.bucketize(target, network.borders[1:-1], right=True)[..., None]
    width = network.borders.diff()
    out: Tensor = torch.log(width)[bar[..., 0]] - log_mass.gather(-1, bar)[..., 0]
    return out


def rate_at(batch: int, stable: int | None, decay: int | None) -> float:
    """Share of the learning rate: a linear way up, a constant phase, and a linear way down to a hundredth."""
    warm = min(1.0, (batch + 1) / WARMUP)
    if stable is None or batch < stable or not decay:
        return warm
    return warm * max(0.01, 1.0 - (batch - stable) / decay)


def checked(network: CurveNetwork, calm: bool, batches: int) -> float:
    """Mean minus log density on tasks that training does not see."""
    rng = np.random.default_rng(987_654_321)
    network.eval()
    with torch.no_grad():
        out = float(
            np.mean([float(losses_of(network, draw_batch(rng, calm=calm)).mean()) for _ in range(batches)])
        )
    network.train()
    return out


def save(path: Path, network: CurveNetwork, facts: dict[str, Any]) -> None:
    """Writes the weights in half precision, the borders in single, and what they are."""
    arrays = {k: v.detach().numpy().astype(np.float32) for k, v in network.state_dict().items()}
    arrays = {k: v if k == "borders" else v.astype(np.float16) for k, v in arrays.items()}
    write_tensors(path, arrays, {k: json.dumps(v) for k, v in facts.items()})


def started(args: argparse.Namespace) -> tuple[CurveNetwork, dict[str, str]]:
    """A fresh network, or that of an earlier stage with what is known of it."""
    if args.start is None:
        return CurveNetwork(bar_borders(args.seed)), {}
    arrays, facts = read_tensors(args.start.read_bytes())
    network = CurveNetwork(arrays["borders"].astype(np.float64))
    network.load_state_dict({k: torch.tensor(v.astype(np.float32)) for k, v in arrays.items()})
    return network, facts


def trained(args: argparse.Namespace) -> None:
    """Runs the two phases and writes weights and log."""
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    torch.set_flush_denormal(True)
    rng = np.random.default_rng(args.seed)
    network, before = started(args)
    optimizer = torch.optim.AdamW(network.parameters(), lr=args.rate, weight_decay=1e-3, betas=(0.9, 0.98))
    began, seen, smooth = time.monotonic(), 0, math.nan
    stable, decay = args.batches, args.decay
    at = 0
    while stable is None or decay is None or at < stable + decay:
        minutes = (time.monotonic() - began) / 60.0
        if stable is None and args.minutes is not None and minutes > args.minutes * args.share:
            stable = at
            decay = math.ceil(at * (1.0 - args.share) / args.share)
        if minutes > args.limit:
            break
        batch = draw_batch(rng, calm=args.calm)
        for group in optimizer.param_groups:
            group["lr"] = args.rate * rate_at(at, stable, decay)
        loss = losses_of(network, batch).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        at += 1
        seen += len(batch.target)
        value = loss.item()
        smooth = value if math.isnan(smooth) else 0.99 * smooth + 0.01 * value
        if at % args.every == 0 or at == 1:
            facts = {
                "seed": args.seed,
                "calm": args.calm,
                "batches": at,
                "stable": stable,
                "decay": decay,
                "rate": args.rate,
            }
            facts |= {"tasks": seen, "held_out": checked(network, args.calm, args.check), "before": before}
            print(json.dumps(facts | {"loss": round(smooth, 4), "minutes": round(minutes, 1)}), flush=True)
            save(args.out, network, facts)
    facts = {
        "seed": args.seed,
        "calm": args.calm,
        "batches": at,
        "stable": stable,
        "decay": decay,
        "rate": args.rate,
    }
    facts |= {"tasks": seen, "held_out": checked(network, args.calm, 5 * args.check), "before": before}
    print(json.dumps(facts), flush=True)
    save(args.out, network, facts)


def parsed(words: list[str] | None = None) -> argparse.Namespace:
    """The settings on a command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batches", type=int, help="batches at the full rate")
    parser.add_argument("--decay", type=int, help="batches on the way down")
    parser.add_argument("--minutes", type=float, help="in place of both: how long it may take")
    parser.add_argument(
        "--limit", type=float, default=math.inf, help="minutes after which it stops wherever it is"
    )
    parser.add_argument("--share", type=float, default=0.7, help="share of the minutes at the full rate")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--every", type=int, default=500, help="batches between two logs")
    parser.add_argument("--rate", type=float, default=RATE, help="learning rate")
    parser.add_argument("--start", type=Path, help="weights of an earlier stage to go on from")
    parser.add_argument("--calm", action="store_true", help="draw calm tasks; see the prior")
    parser.add_argument("--check", type=int, default=40, help="batches that each log is measured with")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args(words)


if __name__ == "__main__":
    trained(parsed())
