"""Scaling laws on released runs: ``python -m benchmarks.scaling_laws [--quick]``.

Three sets of really trained language models in the folder that ``TUNEWRIGHT_DATA`` names: grids of learning rate and batch size
(llm_steplaw, from step-law/steplaw), points read off a figure of the Chinchilla paper and runs at equal compute (llm_isoflop, from
epoch-research/analyzing-chinchilla and formll/resolving-scaling-law-discrepancies).
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tunewright.bench.tables import folder
from tunewright.errors import ConfigError
from tunewright.numerics.statistics import wilcoxon
from tunewright.scaling import laws

Floats = npt.NDArray[np.float64]
RESULTS = Path(__file__).parent / "results" / "scaling_laws.json"
SEQUENCE = 2048
# Exponents of the optimal size in compute, figure 1 of Porian et al. 2024 (arXiv:2406.19146), RefinedWeb.
PORIAN: tuple[tuple[str, tuple[str, ...], float], ...] = (
    ("Kaplan reproduced", ("base", "long", "kaplan", "kaplan", "train"), 0.835),
    ("last layer counted", ("base", "long", "kaplan", "standard", "val"), 0.706),
    ("warm-up corrected", ("base", "short", "kaplan", "standard", "val"), 0.602),
    ("cosine decay", ("base", "short", "chinchilla", "standard", "val"), 0.571),
    ("optimizer tuned", ("tuned", "short", "const", "standard", "val"), 0.497),
)


@dataclass(frozen=True)
class Grid:
    """Losses of one model size and amount of data over learning rates and batch sizes.

    Args:
        name: Its name.
        params: Parameters without embeddings.
        tokens: Training tokens.
        lr: Peak learning rates, shape (n,).
        batch: Tokens per step, shape (n,).
        loss: Smoothed final training loss, shape (n,).
    """

    name: str
    params: float
    tokens: float
    lr: Floats
    batch: Floats
    loss: Floats

    def regret(self, lr: float, batch: float) -> float:
        """Per cent by which the loss of the nearest cell, in logarithms, lies above the best of the grid."""
        nearest = np.hypot(np.log(self.lr / lr), np.log(self.batch / batch)).argmin()
        return float(100 * (self.loss[nearest] / np.nanmin(self.loss) - 1))


def columns(path: str) -> dict[str, Any]:
    """A table of the data folder as arrays by column.

    Raises:
        ConfigError: If it is not there.
    """
    import pandas

    found = folder("data") / path
    if not found.exists():
        raise ConfigError(
            f"A table must be a file on this machine; got no {path}. Set TUNEWRIGHT_DATA to the folder that holds it."
        )
    frame = pandas.read_parquet(found)
    return {str(name): frame[name].to_numpy() for name in frame.columns}


def grids(kind: str = "dense") -> list[Grid]:
    """The released grids, ``"dense"`` or ``"moe"`` (mixtures of experts, by their total parameters).

    Raises:
        ConfigError: If the data is not there.
    """
    t = columns(f"llm_steplaw/{kind}.parquet")
    found = []
    for task in np.unique(t["task"]):
        at = t["task"] == task
        lr, batch, loss = (np.asarray(t[c][at], float) for c in ("lr", "bs", "smooth_loss"))
        found.append(Grid(str(task), float(t["N"][at][0]), float(t["D"][at][0]), lr, batch * SEQUENCE, loss))
    return found


def step_law(grid: Grid) -> tuple[float, float]:
    """Rate and batch of the step law."""
    lr = laws.get("step-law-lr").evaluate(params=grid.params, tokens=grid.tokens)
    return float(lr), float(laws.get("step-law-batch").evaluate(tokens=grid.tokens))


def porian(grid: Grid) -> tuple[float, float]:
    """Rate and batch of Porian et al."""
    lr, batch = (laws.get(f"porian-{k}").evaluate(params=grid.params) for k in ("lr", "batch"))
    return float(lr), float(batch)


def deepseek(grid: Grid) -> tuple[float, float]:
    """Rate and batch of DeepSeek LLM, with compute 6 N D."""
    flops = 6 * grid.params * grid.tokens
    lr, batch = (laws.get(f"deepseek-{k}").evaluate(flops=flops) for k in ("lr", "batch"))
    return float(lr), float(batch)


def refitted(known: list[Grid], bootstrap: int = 0) -> laws.Surface:
    """Our own law: one bowl through the good cells of the given grids."""
    return laws.fit_surface(
        [({"params": g.params, "tokens": g.tokens}, {"lr": g.lr, "batch": g.batch}, g.loss) for g in known],
        bootstrap=bootstrap,
    )


def coverage(given: list[Grid]) -> tuple[int, int]:
    """Best rates and batches of held-out grids that lie in the 95 % interval of our law of the other sizes, and all of them."""
    inside = 0
    for grid in given:
        law = refitted([g for g in given if g.params != grid.params], 200)
        spans = law.interval(params=grid.params, tokens=grid.tokens)
        at = laws.optimum({"lr": grid.lr, "batch": grid.batch}, grid.loss, fit_within=0.01).at
        inside += sum(low <= at[k] <= high for k, (low, high) in spans.items())
    return inside, 2 * len(given)


def held_out(given: list[Grid]) -> Floats:
    """Regrets of our own law on every grid, fitted to the grids of all other model sizes."""
    found = []
    for grid in given:
        at = refitted([g for g in given if g.params != grid.params]).center(
            params=grid.params, tokens=grid.tokens
        )
        found.append(grid.regret(at["lr"], at["batch"]))
    return np.array(found)


def one_setting(given: list[Grid]) -> Floats:
    """Regrets of the one cell that is best for all grids together, chosen in hindsight."""
    cells = {(lr, batch) for g in given for lr, batch in zip(g.lr, g.batch, strict=True)}
    table = np.array([[g.regret(lr, batch) for g in given] for lr, batch in sorted(cells)])
    best: Floats = table[table.mean(axis=1).argmin()]
    return best


def chinchilla(bootstrap: int) -> laws.Fit:
    """Our fit of the points read off the Chinchilla paper.

    Raises:
        ConfigError: If the data is not there.
    """
    t = columns("llm_isoflop/chinchilla_points.parquet")
    return laws.fit_loss(t["n_params"], t["n_tokens"], t["loss"], drop_diverged=True, bootstrap=bootstrap)


def isoflop(setting: tuple[str, ...]) -> tuple[laws.Fit, int]:
    """Our fit of the optimal size against compute for one of the settings of Porian et al., and the levels without an optimum.

    Raises:
        ConfigError: If the data is not there.
    """
    t = columns("llm_isoflop/porian_isoflop.parquet")
    at = np.ones(len(t["flops"]), bool)
    for name, value in zip(("hparams", "warmup", "decay", "param_count", "loss_kind"), setting, strict=True):
        at &= t[name] == value
    flops, sizes, edges = [], [], 0
    size, loss = np.asarray(t["n_params"], float), np.asarray(t["loss"], float)
    for level in np.unique(t["flops"][at]):
        here = at & (t["flops"] == level) & np.isfinite(size)
        if here.sum() < 4:
            continue
        found = laws.optimum({"params": size[here]}, loss[here])
        if found.edge or not found.convex:
            edges += 1
            continue
        flops.append(float(level))
        sizes.append(found.at["params"])
    return laws.fit_power(sizes, {"flops": flops}, output="compute-optimal parameters"), edges


def rows(quick: bool) -> list[dict[str, Any]]:
    """What is measured, what it is compared with, and whether it was reached.

    Args:
        quick: Smaller bootstrap clouds.

    Raises:
        ConfigError: If the data is not there.
    """
    return [
        *_grid_rows(),
        _coefficients_row(),
        _flatness_row(),
        *_chinchilla_rows(100 if quick else 1000),
        *_porian_rows(),
    ]


def _row(what: str, reference: str, measured: str, reached: bool, **figures: float) -> dict[str, Any]:
    return {
        "what": what,
        "reference": reference,
        "measured": measured,
        "reached": reached,
        "figures": figures,
    }


def _grid_rows() -> list[dict[str, Any]]:
    given = grids()
    step = np.array([g.regret(*step_law(g)) for g in given])
    ours = held_out(given)
    all_of_them = refitted(given)
    seen = np.array([g.regret(**all_of_them.center(params=g.params, tokens=g.tokens)) for g in given])
    hindsight = one_setting(given)
    covered, all_optima = coverage(given)
    worse = wilcoxon(ours, step, "greater")
    others = {
        "Porian et al.": np.array([g.regret(*porian(g)) for g in given]),
        "DeepSeek": np.array([g.regret(*deepseek(g)) for g in given]),
        "one setting for all, in hindsight": hindsight,
    }
    said = "; ".join(f"{k} {v.mean():.3f} %" for k, v in others.items())
    experts = np.array([g.regret(*step_law(g)) for g in grids("moe")])
    return [
        _row(
            f"step law on {len(given)} dense grids, loss regret",
            "mean .096 %, largest .31 %",
            f"mean {step.mean():.3f} %, largest {step.max():.3f} % ({said})",
            bool(step.mean() <= 0.10 and step.max() <= 0.32),
            mean=float(step.mean()),
            largest=float(step.max()),
            **{f"mean {k}": float(v.mean()) for k, v in others.items()},
        ),
        _row(
            "our law fitted to the other sizes, on each held-out size",
            f"step law, which has seen these grids: mean {step.mean():.3f} %, largest {step.max():.3f} %",
            f"mean {ours.mean():.3f} %, largest {ours.max():.3f} % (worse than the step law with p = {worse:.2g}; fitted to all sizes, as "
            f"the step law was: mean {seen.mean():.3f} %, largest {seen.max():.3f} %); {covered} of {all_optima} held-out optima "
            f"lie in its 95 % intervals",
            bool(ours.mean() <= step.mean() and ours.max() <= step.max()),
            mean=float(ours.mean()),
            largest=float(ours.max()),
            p_worse=worse,
            mean_seen=float(seen.mean()),
            coverage=covered / all_optima,
        ),
        _row(
            f"step law on {len(experts)} grids of mixtures of experts, by total parameters",
            "no worse than on dense grids",
            f"mean {experts.mean():.3f} %, largest {experts.max():.3f} %",
            bool(experts.mean() <= step.mean()),
            mean=float(experts.mean()),
            largest=float(experts.max()),
        ),
    ]


def _coefficients_row() -> dict[str, Any]:
    """Rates regressed on the cells within three tolerances: how far coefficients and predictions move."""
    given, fits = grids(), []
    for band in (0.0, 0.0025, 0.01):
        good = [(g, g.loss <= np.nanmin(g.loss) * (1 + band)) for g in given]
        sizes, tokens = (
            np.concatenate([np.full(int(at.sum()), getattr(g, k)) for g, at in good])
            for k in ("params", "tokens")
        )
        rates = np.concatenate([g.lr[at] for g, at in good])
        fits.append(
            laws.fit_power(rates, {"params": sizes, "tokens": tokens}, least_explained=0.0, bootstrap=2)
        )
    said = np.array([[f.as_law().evaluate(params=g.params, tokens=g.tokens) for g in given] for f in fits])
    front = [f.coefficients["coefficient"] for f in fits]
    moved, apart = max(front) / min(front), float((said.max(axis=0) / said.min(axis=0)).max())
    exponents = ", ".join(f"{f.coefficients['exponent_tokens']:.2f}" for f in fits)
    return _row(
        "refits of the rate from cells within 0, 0.25 and 1 % of the best",
        "coefficients are not identifiable: predictions differ far less than coefficients",
        f"coefficient {', '.join(f'{c:.2g}' for c in front)}, exponent of tokens {exponents}; predictions on the grids differ by a factor "
        f"of {apart:.2f} at most",
        moved > 5 * apart,
        coefficient_ratio=moved,
        prediction_ratio=apart,
    )


def _flatness_row() -> dict[str, Any]:
    """What a rate off by a factor costs at the best batch, mean over the grids that have such a cell."""
    costs: dict[float, float] = {}
    for factor in (0.25, 0.5, 2.0, 4.0):
        found = []
        for g in grids():
            best = int(np.nanargmin(g.loss))
            off = np.abs(np.log(g.lr / (g.lr[best] * factor))) + 1e9 * (g.batch != g.batch[best])
            if off.min() < 0.2:
                found.append(100 * float(g.loss[off.argmin()] / g.loss[best] - 1))
        costs[factor] = float(np.median(found))
    said = ", ".join(f"{v:.2f} % at {k:g} times" for k, v in costs.items())
    return _row(
        "cost of a rate that is off, at the best batch, median over the grids",
        "flat below the optimum, steep above",
        said + " the best rate",
        costs[0.5] < costs[2.0] and costs[0.25] < costs[4.0],
        **{f"cost at {k:g}": v for k, v in costs.items()},
    )


def _chinchilla_rows(bootstrap: int) -> list[dict[str, Any]]:
    fit = chinchilla(bootstrap)
    found: list[dict[str, Any]] = []
    for name, year in (("chinchilla-loss", 2024), ("chinchilla-2022-loss", 2022)):
        published = dict(laws.get(name).constants)
        published["a"] = published["beta"] / (published["alpha"] + published["beta"])
        spans = {k: fit.interval(k) for k in fit.names}
        spans["a"] = fit.interval_of(lambda c: c["beta"] / (c["alpha"] + c["beta"]))
        inside = [k for k, (low, high) in spans.items() if low <= published[k] <= high]
        outside = [k for k in spans if k not in inside]
        found.append(
            _row(
                f"Chinchilla points: coefficients of {year} in our 95 % intervals",
                "all of E, A, B, alpha, beta and the exponent a of the optimal size",
                f"{len(inside)} of {len(spans)} inside"
                + (f", outside: {', '.join(outside)}" if outside else "")
                + f"; ours: alpha {spans['alpha'][0]:.3f} to {spans['alpha'][1]:.3f}, beta {spans['beta'][0]:.3f} to "
                f"{spans['beta'][1]:.3f}, a {spans['a'][0]:.3f} to {spans['a'][1]:.3f}; {len(fit.dropped)} outliers left out",
                not outside,
                **{
                    f"{k} {end}": float(v)
                    for k, s in spans.items()
                    for end, v in zip(("low", "high"), s, strict=True)
                },
            )
        )
    return found


def _porian_rows() -> list[dict[str, Any]]:
    found = []
    for name, setting, published in PORIAN:
        fit, edges = isoflop(setting)
        low, high = fit.interval("exponent_flops")
        found.append(
            _row(
                f"Porian et al., {name}: published exponent in our 95 % interval",
                f"{published}",
                f"{fit.coefficients['exponent_flops']:.3f} ({low:.3f} to {high:.3f}), {len(fit.residuals)} levels, {edges} without "
                f"an optimum inside",
                low <= published <= high,
                exponent=fit.coefficients["exponent_flops"],
                low=low,
                high=high,
                published=published,
            )
        )
    return found


def table(found: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table."""
    lines = ["| what | reference | measured | reached |", "| --- | --- | --- | --- |"]
    lines += [
        f"| {r['what']} | {r['reference']} | {r['measured']} | {'yes' if r['reached'] else 'no'} |"
        for r in found
    ]
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    """Measures, prints and stores."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling_laws", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--quick", action="store_true", help="smaller bootstrap clouds; nothing is stored")
    given = parser.parse_args(argv)
    try:
        found = rows(given.quick)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    print(table(found))
    if not given.quick:
        versions = {"python": platform.python_version(), "numpy": np.__version__}
        RESULTS.write_text(
            json.dumps({"rows": found, "versions": versions}, indent=1, ensure_ascii=False) + "\n",
            encoding="utf-8",
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
