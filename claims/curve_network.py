"""A network trained on a prior of learning curves predicts real ones better than models fitted to them, and sooner.

Rakotoarison, Adriaensen, Mallik, Garibov, Bergman and Hutter (2024) train a transformer once on curves drawn from a prior
and report predictions that are more accurate than those of a deep Gaussian process and an ensemble of power laws that are
fitted to each study, and 10 to 100 times faster. Ours is the network that ships with the package.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from claims.curve_models import Observed, log_density, power_laws, process
from claims.record import Claim, Result, Verdict
from tunewright.bench import tables
from tunewright.errors import ConfigError, MissingExtra
from tunewright.models.curve_prior import DIMENSIONS, Histories, draw_histories
from tunewright.models.curve_tokens import LAST, picked_regular, scale_of, summary_of, tokens
from tunewright.models.pfn import NEW, curve_network
from tunewright.numerics.statistics import holm, wilcoxon

CLAIM = Claim(
    title="A network trained on a prior predicts real learning curves better than models fitted to them, and sooner.",
    paper="Rakotoarison et al. 2024, ICML, arXiv:2404.16795, Section 5.1",
    check=(
        "Studies of 5 to 60 curves of different lengths: 20 drawn from the prior with seeds that training did not use, and "
        "20 of recorded trainings (5 tasks of 81 epochs, 15 of LCBench's 50). Log density of the squashed loss of begun and "
        "of new configurations at later steps under our network, an ensemble of five power-law networks, and a Gaussian "
        "process with a kernel of its own for each curve, scales by evidence."
    ),
    rule=(
        "Holds at reduced scale if the network's mean log density is higher than that of both baselines, on recorded "
        "trainings and on those of the prior, each with p < 0.05 over studies, and it needs a tenth of their CPU time or "
        "less; not reproduced otherwise."
    ),
)
Array = NDArray[np.float64]
_QUERIES = 64
_MODELS = ("network", "power_laws", "process")


def prior_studies(count: int) -> Iterator[Histories]:
    """Studies drawn from the prior, half of them calm."""
    for i in range(count):
        rng = np.random.default_rng([16795, i])
        n = int(np.exp(rng.uniform(np.log(5.0), np.log(60.0))))
        yield draw_histories(
            rng, 1, n, _QUERIES, int(rng.integers(10, 80)), int(rng.integers(2, 11)), calm=i % 2 == 0
        )


def recorded_studies(count: int) -> Iterator[Histories]:
    """Studies of recorded trainings: random configurations, the better ones trained longer.

    Raises:
        ConfigError: If the data is not at hand.
        MissingExtra: If pandas is not installed.
    """
    found = [tables.curve_task(n) for n in tables.CURVES]
    found += [tables.lcbench_task(n) for n in tables.lcbench_names()[:15]]
    for i in range(count):
        rng = np.random.default_rng([7, i])
        task = found[i % len(found)]
        space, fidelity = task.problem.space, task.problem.fidelity
        assert fidelity is not None
        n, t = int(np.exp(rng.uniform(np.log(5.0), np.log(60.0)))), fidelity.high
        rows = space.sample(rng, n + _QUERIES // 2)
        losses = np.array([task.curve(space.decode(r))[0] for r in rows])
        seen = np.zeros(len(rows), dtype=np.int64)
        lengths = np.sort(np.ceil(t * rng.random(n) ** rng.choice([1.0, 3.0, 8.0])))[::-1]
        seen[np.argsort(losses[:n, 0])] = lengths
        going = rng.integers(0, n, _QUERIES // 2)
        asked = np.concatenate([going, np.arange(n, n + _QUERIES // 2)])
        steps = seen[asked] + np.ceil(rng.random(_QUERIES) * (t - seen[asked])).astype(np.int64)
        codes = np.full((len(rows), DIMENSIONS), np.nan)
        codes[:, : space.d] = rows
        yield Histories(codes[None], losses[None], seen[None], n, asked[None], np.clip(steps, 1, t)[None])


def judged(study: Histories) -> dict[str, tuple[float, float, float]]:
    """By model, the mean log density for begun and for new configurations, and CPU seconds."""
    h, n, t = study, study.n, study.losses.shape[-1]
    raw = picked_regular(h.losses, h.seen)[0]
    scale = scale_of(raw[:n])
    y = scale.squashed(raw)
    rows, part, seen = h.rows[0], h.steps[0] / t, h.seen[0]
    truth = scale.squashed(h.targets.T)[:, 0]
    # Of curves that were seen to their end there is nothing left to ask.
    open_ = seen[rows] < t
    old, new = open_ & (rows < n), open_ & (rows >= n)
    out: dict[str, tuple[float, float, float]] = {}

    def note(name: str, density: Array, began: float) -> None:
        spent = time.process_time() - began
        out[name] = (float(density[old].mean()) if old.any() else np.nan, float(density[new].mean()), spent)

    network = curve_network()
    began = time.process_time()
    summary = summary_of(y[:n])
    context = tokens(h.codes[0, :n], y[:n], seen[:n] / t, seen[:n].astype(np.float64), summary)
    query = tokens(h.codes[0, rows], y[rows], seen[rows] / t, seen[rows].astype(np.float64), summary, part)
    anchor = np.where(seen[rows] > 0, y[rows, LAST], NEW)
    bars = network.predict(network.remember(context), query, anchor)
    note("network", bars.log_density(truth), began)
    which, step = np.nonzero(np.arange(t)[None] < seen[:n, None])
    codes = np.nan_to_num(h.codes[0], nan=0.5)
    reports = Observed(codes[which], which, (step + 1) / t, scale.squashed(h.losses[0])[which, step])
    began = time.process_time()
    note("power_laws", log_density(*power_laws(reports, codes[rows], part), truth), began)
    began = time.process_time()
    curve = np.where(rows < n, rows, -1)
    note("process", log_density(*process(reports, codes[rows], curve, part), truth), began)
    return out


def table(studies: Iterator[Histories]) -> dict[str, Array]:
    """By model, what ``judged`` says of every study, shape ``(studies, 3)``."""
    found = [judged(s) for s in studies]
    return {name: np.array([f[name] for f in found]) for name in _MODELS}


def figures_of(kind: str, found: Mapping[str, Array]) -> dict[str, float | int | str]:
    """Means over studies."""
    out: dict[str, float | int | str] = {}
    for name, values in found.items():
        old, new, spent = np.nanmean(values, axis=0)
        out |= {f"{kind}_{name}_begun": float(old), f"{kind}_{name}_new": float(new)}
        out[f"{kind}_{name}_ms"] = 1000.0 * float(spent)
    return out


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = "an ensemble of power laws and a Gaussian process, both fitted to each study"
    count = 4 if quick else 20
    try:
        import torch

        torch.set_num_threads(1)
        found = {"recorded": table(recorded_studies(count)), "prior": table(prior_studies(count))}
    except (ConfigError, MissingExtra, ImportError) as error:
        return Result("cannot be checked here", str(error), baseline, "none", ())
    tests, better = [], True
    for values in found.values():
        ours = np.nanmean(values["network"][:, :2], axis=1)
        for name in _MODELS[1:]:
            theirs = np.nanmean(values[name][:, :2], axis=1)
            better &= bool(ours.mean() > theirs.mean())
            tests.append(wilcoxon(-ours, -theirs, "less"))
    spent = {name: float(np.mean([v[name][:, 2].mean() for v in found.values()])) for name in _MODELS}
    gain = min(spent["power_laws"], spent["process"]) / spent["network"]
    p = float(max(holm(tests)))
    good = better and p < 0.05 and gain >= 10.0
    verdict: Verdict = "holds at reduced scale" if good else "not reproduced"
    mean = {k: {n: float(np.nanmean(v[n][:, :2])) for n in _MODELS} for k, v in found.items()}
    facts = curve_network().facts
    return Result(
        verdict,
        f"Mean log density on recorded trainings {mean['recorded']['network']:.2f} by the network, "
        f"{mean['recorded']['power_laws']:.2f} by power laws, {mean['recorded']['process']:.2f} by the process; on curves of "
        f"the prior {mean['prior']['network']:.2f}, {mean['prior']['power_laws']:.2f} and {mean['prior']['process']:.2f}; "
        f"{1000 * spent['network']:.0f} ms a study, {gain:.0f} times less than the faster baseline.",
        baseline,
        "Wilcoxon signed-rank over studies, one-sided, Holm over four comparisons",
        tuple(range(count)),
        {
            "studies": count,
            **figures_of("recorded", found["recorded"]),
            **figures_of("prior", found["prior"]),
            "largest_p": p,
            "times_faster": gain,
            "batches": int(facts["batches"]),
        },
    )
