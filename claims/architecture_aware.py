"""First values and rates from a network's graph.

Chen et al. (2024) derive the largest good learning rate of a network from its paths, one over the root of the sum of their cubed
depths, and find it to correlate with rates found by search (r = .838 over networks of random graphs); training each network at
its own rate changes their ranking.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from claims.digit_sweeps import digits
from claims.record import Claim, Result, Verdict
from claims.transfer import optimum
from tunewright.errors import MissingExtra
from tunewright.numerics.statistics import bootstrap_interval, wilcoxon

CLAIM = Claim(
    title="The best rate of a network of any graph follows from the cubes of its paths' depths, tuned on the smallest network.",
    paper="Chen, Wu, Wang and Hanin 2024, arXiv:2402.17440, equations 4 and 8, figure 2",
    check=(
        "The networks of the authors' code, smaller: a stem of 64 units with ReLU, a cell of five vertices whose ten edges are "
        "nothing, a skip, or a linear layer with ReLU, a readout; 13 random cells, and chains of 4 to 10 layers; first values by the "
        "rule. Gradient descent on endless digits (shifted, with noise) for 391 batches, an epoch of theirs, of 32, at 15 rates a "
        "factor of root 2 apart; the rate with the lowest training loss (mean over the epoch as in the authors' code, bottom of a "
        "parabola) against the one predicted from that of the authors' base: stem, linear layer, readout. Then each network at its "
        "predicted rate against all at the base's. This is the second set-up. The first had 32 units, no skips, 56 steps, the loss "
        "of the last five, and a base of one hidden layer, against whose depth of 1 an asymptotic cube was measured; it gave r = .57 "
        "and a slope of .17. The authors' code counts the base's depth as 3 instead of 2, and that of other paths as 2 more than "
        "equation 8 does; figures by that count are given beside."
    ),
    rule=(
        "Holds at reduced scale if the correlation of the logarithms of predicted and found rates is .7 or more with a bootstrap "
        "interval above 0, and the mean loss at predicted rates is below that at the base's rate, p < .05 over networks; not "
        "reproduced otherwise."
    ),
)
_WIDTH, _BATCH, _STEPS = 64, 32, 391
_RATES = tuple(2.0 ** (k / 2) for k in range(-12, 3))
_VERTICES = 5
Kind = Literal["skip", "linear"]
Edges = tuple[tuple[int, int, Kind], ...]
Floats = NDArray[np.float64]


def random_cell(rng: np.random.Generator) -> Edges:
    """Edges between the stem's vertex 0 and the readout's, every vertex on a way between them."""
    last = _VERTICES - 1
    pairs = [(i, j) for j in range(1, _VERTICES) for i in range(j)]
    kinds: tuple[Kind, ...] = ("skip", "linear")
    while True:
        drawn = rng.integers(0, 3, len(pairs))
        edges = tuple((i, j, kinds[k - 1]) for (i, j), k in zip(pairs, drawn, strict=True) if k)
        into, out = {j for _, j, _ in edges}, {i for i, _, _ in edges}
        if (
            into == set(range(1, last + 1))
            and out == set(range(last))
            and any(k == "linear" for *_, k in edges)
        ):
            return edges


def _chain(layers: int) -> Edges:
    """So many layers one after another, stem and readout among them."""
    return tuple((i, i + 1, "linear") for i in range(layers - 2))


def network(edges: Edges, width: int = _WIDTH) -> Any:
    """A stem, a cell, a readout."""
    import torch
    from torch import nn

    class Network(nn.Module):
        """As in the authors' code, without biases: ReLUs on the edges, sums at the vertices."""

        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Linear(64, width, bias=False)
            self.layers = nn.ModuleDict(
                {f"edge_{i}_{j}": nn.Linear(width, width, bias=False) for i, j, k in edges if k == "linear"}
            )
            self.readout = nn.Linear(width, 10, bias=False)

        def forward(self, x: Any) -> Any:
            values = {0: torch.relu(self.stem(x))}
            for j in range(1, 1 + max(j for _, j, _ in edges)):
                z: Any = None
                for i, kind in ((i, kind) for i, k, kind in edges if k == j):
                    term = values[i]
                    if kind == "linear":
                        term = torch.relu(self.layers[f"edge_{i}_{j}"](term))
                    z = term if z is None else z + term
                values[j] = z
            return self.readout(values[max(values)])

    return Network()


_BASE = _chain(3)


def _batches(seed: int) -> Iterator[tuple[Any, Any]]:
    """Digits shifted by a pixel at most, with noise, without end."""
    import torch

    x, y = digits()
    images = torch.nn.functional.pad(x.view(-1, 8, 8), (1, 1, 1, 1), value=float(x.min()))
    generator, side = torch.Generator().manual_seed(seed), torch.arange(8)
    while True:
        rows = torch.randint(len(images), (_BATCH,), generator=generator)
        down, right = torch.randint(0, 3, (2, _BATCH, 1, 1), generator=generator)
        shifted = images[rows[:, None, None], down + side[:, None], right + side[None, :]].flatten(1)
        yield shifted + 0.5 * torch.randn(shifted.shape, generator=generator), y[rows]


def _counted(graph: Any) -> float:
    """The cubes' sum with depths as the authors' code counts them: layers of the cell and 3 more; of the base it has 3."""
    return float(sum(count * (depth + 2) ** 3 for depth, count in graph.paths))


def _losses(edges: Edges, base: Any, seeds: tuple[int, ...], steps: int) -> tuple[Floats, float, float]:
    """Training loss by rate and seed, all layers at one rate, and the factors that the rule and the authors' code have for the rate."""
    import torch

    from tunewright import scaling
    from tunewright.scaling.graph import trace

    plan = scaling.plan("architecture-aware", network(edges), base, optimizer="sgd")
    factor = next(iter(plan.entries.values())).lr

    def build(seed: int) -> Any:
        return plan.init_(network(edges), seed)

    how = scaling.How(optimizer="sgd", betas=(0.0, 0.0))
    cross_entropy = torch.nn.functional.cross_entropy
    found = scaling.sweep(build, _RATES, seeds, _batches, cross_entropy, steps=steps, how=how).losses.mean(
        axis=2
    )
    code = (3**3 / _counted(trace(network(edges)))) ** 0.5
    return np.asarray(np.where(np.isfinite(found), found, np.inf)), factor, code


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = "the rate of the base (stem, one linear layer, readout) for every network"
    try:
        import sklearn  # noqa: F401
        import torch
    except ImportError:
        return Result(
            "cannot be checked here",
            str(MissingExtra("PyTorch and scikit-learn are needed.")),
            baseline,
            "none",
            (),
        )
    seeds = tuple(range(2 if quick else 10))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _run(quick, seeds, baseline)
    finally:
        torch.set_num_threads(threads)


def _run(quick: bool, seeds: tuple[int, ...], baseline: str) -> Result:
    from scipy.stats import kendalltau, pearsonr

    rng = np.random.default_rng(0)
    cells = [random_cell(rng) for _ in range(1 if quick else 13)]
    cells += [_chain(layers) for layers in ((5,) if quick else range(4, 11))]
    steps = 10 if quick else _STEPS
    base = network(_BASE)
    first, _, _ = _losses(_BASE, base, seeds, steps)
    tuned = int(np.argmin(first.mean(axis=1)))
    logs = np.log2(_RATES)
    predicted, coded, found, at_predicted, at_tuned = [], [], [], [], []
    for edges in cells:
        losses, factor, code = _losses(edges, base, seeds, steps)
        mean = losses.mean(axis=1)
        predicted.append(logs[tuned] + np.log2(factor))
        coded.append(logs[tuned] + np.log2(code))
        found.append(optimum(_RATES, mean))
        at_predicted.append(mean[int(np.argmin(np.abs(logs - predicted[-1])))])
        at_tuned.append(mean[tuned])
    r = float(pearsonr(predicted, found)[0]) if len(cells) > 2 else float("nan")
    low, high = _interval(np.array(predicted), np.array(found))
    slope = float(np.polyfit(predicted, found, 1)[0])
    r_code = float(pearsonr(coded, found)[0]) if len(cells) > 2 else float("nan")
    slope_code = float(np.polyfit(coded, found, 1)[0])
    # A training that broke down counts as one that learned nothing.
    worst = np.log(10)
    ours, theirs = (np.minimum(v, worst) for v in (at_predicted, at_tuned))
    p = wilcoxon(ours, theirs, "less") if len(cells) > 2 else 1.0
    tau = float(kendalltau(ours, theirs)[0])
    good = r >= 0.7 and low > 0 and ours.mean() < theirs.mean() and p < 0.05
    verdict: Verdict = "holds at reduced scale" if good else "not reproduced"
    gap_low, gap_high = bootstrap_interval(ours - theirs, np.random.default_rng(1))
    return Result(
        verdict,
        f"Over {len(cells)} networks the logarithms of predicted and found rates correlate with r = {r:.2f} ({low:.2f} to {high:.2f}), "
        f"slope {slope:.2f}; found rates span {max(found) - min(found):.1f} octaves. The mean training loss at predicted rates is "
        f"{ours.mean():.3f}, at the base's {theirs.mean():.3f} (difference {gap_low:.3f} to {gap_high:.3f}, p = {p:.2g}). Kendall's "
        f"tau of the two rankings of the networks is {tau:.2f}. With depths as the authors' code counts them r = {r_code:.2f}, slope "
        f"{slope_code:.2f}.",
        baseline,
        "bootstrap over networks of Pearson's r; Wilcoxon signed-rank over networks, one-sided",
        seeds,
        {
            "r": r,
            "r_low": low,
            "r_high": high,
            "slope": slope,
            "loss_at_predicted": float(ours.mean()),
            "loss_at_base_rate": float(theirs.mean()),
            "p": p,
            "kendall": tau,
            "log2_rate_of_base": float(logs[tuned]),
            "r_as_coded": r_code,
            "slope_as_coded": slope_code,
            **{f"predicted_{i}": float(v) for i, v in enumerate(predicted)},
            **{f"found_{i}": float(v) for i, v in enumerate(found)},
        },
    )


def _interval(a: Floats, b: Floats) -> tuple[float, float]:
    """Bootstrap interval of Pearson's r over pairs, 95 %."""
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(2000):
        rows = rng.integers(0, len(a), len(a))
        if np.ptp(a[rows]) > 0 and np.ptp(b[rows]) > 0:
            drawn.append(np.corrcoef(a[rows], b[rows])[0, 1])
    return (float(np.quantile(drawn, 0.025)), float(np.quantile(drawn, 0.975))) if drawn else (-1.0, 1.0)
