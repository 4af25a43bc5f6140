"""First values and rates from a network's graph.

Chen et al. (2024) derive the largest good learning rate of a network from its paths, one over the root of the sum of their cubed
depths, and find it to correlate with rates found by search (r = .838 over networks of random graphs); training each network at
its own rate changes their ranking.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from claims.digit_sweeps import batches, digits
from claims.record import Claim, Result, Verdict
from tunewright.errors import MissingExtra
from tunewright.numerics.statistics import bootstrap_interval, wilcoxon

CLAIM = Claim(
    title="The best rate of a network of any graph follows from the cubes of its paths' depths, tuned on the smallest network.",
    paper="Chen, Wu, Wang and Hanin 2024, arXiv:2402.17440, equations 4 and 8, figure 2",
    check=(
        "Networks of 32 units and random graphs of two to six hidden vertices on the digits, first values by the rule, one epoch of "
        "gradient descent in batches of 32 at 15 rates a factor of root 2 apart; the rate with the lowest mean training loss over "
        "the last tenth of the steps against the one predicted from that of a chain with one hidden vertex. Then each network at "
        "its predicted rate against all at the chain's."
    ),
    rule=(
        "Holds at reduced scale if the correlation of the logarithms of predicted and found rates is .7 or more with a bootstrap "
        "interval above 0, and the mean loss at predicted rates is below that at the chain's rate, p < .05 over networks; not "
        "reproduced otherwise."
    ),
)
_WIDTH, _BATCH = 32, 32
_RATES = tuple(2.0 ** (k / 2) for k in range(-12, 3))
_CHAIN = ((0, 1), (1, 2))
Edges = tuple[tuple[int, int], ...]
Floats = NDArray[np.float64]


def random_graph(rng: np.random.Generator, hidden: int) -> Edges:
    """Edges between the input 0, hidden vertices and the output, every vertex on a way from input to output."""
    end = hidden + 1
    while True:
        share = rng.uniform(0.2, 0.9)
        edges = tuple(
            (i, j) for j in range(1, end + 1) for i in range(j) if (i, j) != (0, end) and rng.random() < share
        )
        into, out = {j for _, j in edges}, {i for i, _ in edges}
        if into >= set(range(1, end + 1)) and out >= set(range(end)):
            return edges


def network(edges: Edges, width: int = _WIDTH) -> Any:
    """Linear layers on the edges, sums and ReLUs at the vertices."""
    import torch
    from torch import nn

    end = max(j for _, j in edges)

    class Network(nn.Module):
        """Equation 1 of the paper, the input without a ReLU."""

        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleDict(
                {
                    f"edge_{i}_{j}": nn.Linear(64 if i == 0 else width, 10 if j == end else width, bias=False)
                    for i, j in edges
                }
            )

        def forward(self, x: Any) -> Any:
            values = {0: x}
            for j in range(1, end + 1):
                z: Any = None
                for i in (i for i, k in edges if k == j):
                    term = self.layers[f"edge_{i}_{j}"](values[i])
                    z = term if z is None else z + term
                values[j] = z if j == end else torch.relu(z)
            return values[end]

    return Network()


def _losses(edges: Edges, base: Any, seeds: tuple[int, ...], steps: int) -> tuple[Floats, float]:
    """Training loss by rate and seed, all layers at one rate, and the factor that the rule has for the rate."""
    import torch

    from tunewright import scaling

    plan = scaling.plan("architecture-aware", network(edges), base, optimizer="sgd")
    factor = next(iter(plan.entries.values())).lr

    def build(seed: int) -> Any:
        return plan.init_(network(edges), seed)

    how = scaling.How(optimizer="sgd", betas=(0.0, 0.0))
    cross_entropy = torch.nn.functional.cross_entropy
    found = scaling.sweep(build, _RATES, seeds, batches(_BATCH), cross_entropy, steps=steps, how=how).final
    return np.asarray(np.where(np.isfinite(found), found, np.inf)), factor


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = "the rate of the chain with one hidden vertex for every network"
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
    sizes = (2, 5) if quick else (2, 2, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 5, 6, 6, 6, 6, 6, 6)
    graphs = [random_graph(rng, n) for n in sizes]
    steps = 10 if quick else len(digits()[0]) // _BATCH
    base = network(_CHAIN)
    chain, _ = _losses(_CHAIN, base, seeds, steps)
    tuned = int(np.argmin(chain.mean(axis=1)))
    logs = np.log2(_RATES)
    predicted, found, at_predicted, at_tuned = [], [], [], []
    for edges in graphs:
        losses, factor = _losses(edges, base, seeds, steps)
        mean = losses.mean(axis=1)
        predicted.append(logs[tuned] + np.log2(factor))
        found.append(logs[int(np.argmin(mean))])
        at_predicted.append(mean[int(np.argmin(np.abs(logs - predicted[-1])))])
        at_tuned.append(mean[tuned])
    r = float(pearsonr(predicted, found)[0]) if len(graphs) > 2 else float("nan")
    low, high = _interval(np.array(predicted), np.array(found))
    slope = float(np.polyfit(predicted, found, 1)[0])
    # A training that broke down counts as one that learned nothing.
    worst = np.log(10)
    ours, theirs = (np.minimum(v, worst) for v in (at_predicted, at_tuned))
    p = wilcoxon(ours, theirs, "less") if len(graphs) > 2 else 1.0
    tau = float(kendalltau(ours, theirs)[0])
    good = r >= 0.7 and low > 0 and ours.mean() < theirs.mean() and p < 0.05
    verdict: Verdict = "holds at reduced scale" if good else "not reproduced"
    gap_low, gap_high = bootstrap_interval(ours - theirs, np.random.default_rng(1))
    return Result(
        verdict,
        f"Over {len(graphs)} graphs the logarithms of predicted and found rates correlate with r = {r:.2f} ({low:.2f} to {high:.2f}), "
        f"slope {slope:.2f}; found rates span {max(found) - min(found):.1f} octaves. The mean training loss at predicted rates is "
        f"{ours.mean():.3f}, at the chain's {theirs.mean():.3f} (difference {gap_low:.3f} to {gap_high:.3f}, p = {p:.2g}). Kendall's "
        f"tau of the two rankings of the networks is {tau:.2f}.",
        baseline,
        "bootstrap over networks of Pearson's r; Wilcoxon signed-rank over networks, one-sided",
        seeds,
        {
            "r": r,
            "r_low": low,
            "r_high": high,
            "slope": slope,
            "loss_at_predicted": float(ours.mean()),
            "loss_at_chain": float(theirs.mean()),
            "p": p,
            "kendall": tau,
            "log2_rate_of_chain": float(logs[tuned]),
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
