"""Settings transferred from small models against tuning the large one: ``python -m benchmarks.scaling_proxy [--quick]``.

Two tasks: an MLP of width 256 on the digits of scikit-learn, and a transformer of width 128 over letters of a generated
language. The proxies have an eighth and a quarter of that width. Rate and momentum of Adam are searched with TPE. Direct tuning
trains the target in each of 15 trials, under standard parametrization and under muP. A proxy study trains both
proxies in every trial, for as many trials as fit, with the one training of the target at the end, in a fifth of what direct
tuning spends. Costs are counted in trainings of the target by 6 N D, and in seconds of the processor.

What a search comes to is judged anew: its settings train the target from seeds that no search has seen, and the loss is that of
data held out from all. The rule, fixed before the run: transfer is as good as direct tuning if its mean loss over searches is
below that of direct tuning plus one standard error of the paired differences.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import tunewright as tw
from tunewright.bench.language import Language, windows
from tunewright.bench.micro import CharTransformer, Mlp, next_letter_loss
from tunewright.scaling import Family, Scale
from tunewright.scaling.proxy import Transfer

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "scaling_proxy.json"
SPACE = {"lr": tw.Float(2.0**-15, 2.0**-1, log=True), "beta1": tw.Float(0.5, 0.98)}
_FRESH = 1000
Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Task:
    """What is trained.

    Attributes:
        name: Shown in tables.
        family: The model at any size.
        target: Width of the target.
        steps: Of every training.
        batch: A batch from a generator.
        tuning: Data that searches see the loss of.
        test: Data that judges what they come to.
        loss: Of scores and targets.
    """

    name: str
    family: Family
    target: int
    steps: int
    batch: Callable[[np.random.Generator], Batch]
    tuning: Batch
    test: Batch
    loss: Callable[[Tensor, Tensor], Tensor]

    @property
    def base(self) -> int:
        """Width at which the rate is tuned."""
        return int(self.family.base["width"])


@cache
def digits(steps: int) -> Task:
    """The digits: 1,000 images to train on, about 400 to tune on and to test on."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    x, y = torch.tensor(x[order] / 16 - 0.3, dtype=torch.float32), torch.tensor(y[order])

    def batch(rng: np.random.Generator) -> Batch:
        rows = torch.from_numpy(rng.integers(0, 1000, size=64))
        return x[rows], y[rows]

    return Task(
        "digits MLP",
        Family(Mlp, {"width": 32}, {"depth": 3}),
        256,
        steps,
        batch,
        (x[1000:1400], y[1000:1400]),
        (x[1400:], y[1400:]),
        nn.functional.cross_entropy,
    )


@cache
def letters(steps: int) -> Task:
    """Texts of a generated language; the loss is in nats per letter."""
    language = Language(0)
    text = language.text(200_000, 0)

    def pieces(rng: np.random.Generator, rows: int, source: Any) -> Batch:
        x, y = windows(source, 32, rows, rng)
        return torch.from_numpy(x), torch.from_numpy(y)

    unseen = [pieces(np.random.default_rng(i), 64, language.text(20_000, i)) for i in (1, 2)]
    return Task(
        "letters transformer",
        Family(CharTransformer, {"width": 16}, {"depth": 1}),
        128,
        steps,
        lambda rng: pieces(rng, 8, text),
        unseen[0],
        unseen[1],
        next_letter_loss,
    )


def trained(task: Task, width: int, rule: str, params: dict[str, Any], seed: int, on: str) -> float:
    """Loss after a training with a rate that falls to nothing, infinite where it diverged.

    Args:
        task: What is trained.
        width: Of the model.
        rule: Its parametrization.
        params: ``lr`` and ``beta1``.
        seed: Of the first weights and the order of the data.
        on: Data of the loss: ``tuning`` or ``test``.
    """
    model, plan = task.family.build(rule, seed, optimizer="adam", width=width)
    optimizer = torch.optim.Adam(plan.param_groups(params["lr"]), betas=(params["beta1"], 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda t: 1 - t / task.steps)
    rng = np.random.default_rng([seed, 11])
    for _ in range(task.steps):
        x, y = task.batch(rng)
        loss = task.loss(model(x), y)
        if not math.isfinite(loss.item()):
            return math.inf
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    x, y = getattr(task, on)
    with torch.no_grad():
        found = float(task.loss(model(x), y))
    return found if math.isfinite(found) else math.inf


def direct(task: Task, rule: str, seed: int, trials: int) -> tuple[list[dict[str, Any]], list[float], float]:
    """Tunes the target itself: parameters and losses of the trials in order, and seconds."""
    study = tw.Study.open("direct", SPACE, method="tpe", seed=seed, storage="memory", resumable=False)
    began = time.process_time()

    def train(trial: tw.Attempt) -> float:
        return trained(task, task.target, rule, trial.params, seed * 100 + trial.number, "tuning")

    study.run(train, trials=trials, progress="none", failures=None)
    losses = [t.metrics.get("loss", math.inf) for t in study.trials]
    return [t.params for t in study.trials], losses, time.process_time() - began


def by_proxy(
    task: Task, rules: str | tuple[str, ...], seed: int, budget: float
) -> tuple[Transfer, dict[str, Any], str, float]:
    """Tunes the proxies for a budget in trainings of the target: what they say, settings, rule, and seconds.

    Where they refuse to say anything, the settings are those of the best trial.
    """
    scale = Scale({"width": (task.base, task.target)}, steps=task.steps, rule=rules)
    study = tw.Study.open("proxy", SPACE, scale=scale, method="tpe", seed=seed, storage="memory")
    began = time.process_time()

    def train(trial: tw.Attempt) -> float:
        return trained(
            task, trial.size("width"), trial.rule, trial.params, seed * 100 + trial.number, "tuning"
        )

    study.run(train, trials=int(budget / scale.cost_of(scale.high)), progress="none", failures=None)
    found = study.transfer()
    settings = study.best.params if found.refusal else found.settings
    rule = found.rule or str(settings.get("rule", scale.rules[0]))
    return found, settings, rule, time.process_time() - began


def judged(task: Task, rule: str, params: dict[str, Any], seed: int, repeats: int) -> float:
    """Mean loss at the target on data and seeds that no search has seen."""
    return float(
        np.mean(
            [
                min(trained(task, task.target, rule, params, _FRESH + seed * repeats + i, "test"), 10.0)
                for i in range(repeats)
            ]
        )
    )


def searches(task: Task, seed: int, trials: int, repeats: int) -> dict[str, dict[str, float]]:
    """All searches of one seed: loss of each, its cost in trainings of the target and in seconds.

    Args:
        task: What is trained.
        seed: Of the search.
        trials: Trainings of the target that direct tuning may have.
        repeats: Trainings that judge a search.
    """
    share = trials / 5
    out: dict[str, dict[str, float]] = {}
    for rule in ("sp", "mup"):
        params, losses, seconds = direct(task, rule, seed, trials)
        for name, n in (("", trials), (", a fifth", max(1, int(share)))):
            best = params[int(np.argmin(losses[:n]))]
            out[f"direct, {rule}{name}"] = {
                "loss": judged(task, rule, best, seed, repeats),
                "cost": float(n),
                "seconds": seconds * n / trials,
                "rate": best["lr"],
            }
    ways: dict[str, str | tuple[str, ...]] = {"transfer, mup": "mup", "transfer, mup or sp": ("mup", "sp")}
    for name, rules in ways.items():
        found, settings, rule, seconds = by_proxy(task, rules, seed, share - 1)
        out[name] = {
            "loss": judged(task, rule, settings, seed, repeats),
            "cost": found.cost + 1,
            "seconds": seconds + out["direct, sp"]["seconds"] / trials,
            "rate": settings["lr"],
            "refused": float(bool(found.refusal)),
            "mup": float(rule == "mup"),
        }
    return out


def summary(task: Task, found: Sequence[dict[str, dict[str, float]]]) -> list[dict[str, Any]]:
    """A row for every search, and how transfer compares with direct tuning at five times its cost."""
    out: list[dict[str, Any]] = []
    for name in found[0]:
        loss = np.array([f[name]["loss"] for f in found])
        row: dict[str, Any] = {
            "task": task.name,
            "search": name,
            "loss": round(float(loss.mean()), 4),
            "cost": round(float(np.mean([f[name]["cost"] for f in found])), 2),
            "seconds": round(float(np.mean([f[name]["seconds"] for f in found])), 1),
            "seeds": len(found),
            "losses": [round(float(v), 4) for v in loss],
            "rates": [round(math.log2(f[name]["rate"]), 2) for f in found],
        }
        if name.startswith("transfer"):
            row["refused"] = int(sum(f[name]["refused"] for f in found))
            row["chose_mup"] = int(sum(f[name]["mup"] for f in found))
            for rule in (r for r in ("sp", "mup") if f"direct, {r}" in found[0]):
                gap = loss - np.array([f[f"direct, {rule}"]["loss"] for f in found])
                error = float(gap.std(ddof=1) / math.sqrt(len(gap))) if len(gap) > 1 else 0.0
                row[f"against_{rule}"] = [round(float(gap.mean()), 4), round(error, 4)]
                row[f"as_good_as_{rule}"] = bool(gap.mean() <= error)
        out.append(row)
    return out


def rows(quick: bool) -> list[dict[str, Any]]:
    """Mean loss, cost and verdict of every kind of search on both tasks.

    Args:
        quick: One seed and short trainings on the digits only, for a look at whether it works.
    """
    torch.set_num_threads(1)
    if quick:
        task = digits(40)
        return summary(task, [searches(task, 0, 10, 1)])
    few, many = digits(80), letters(60)
    out = summary(few, [searches(few, seed, 15, 2) for seed in range(5)])
    return out + summary(many, [searches(many, seed, 15, 1) for seed in range(5)])


def main(argv: list[str] | None = None) -> int:
    """Measures, prints and stores."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scaling_proxy", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--quick", action="store_true", help="one seed of the digits; nothing is stored")
    given = parser.parse_args(argv)
    found = rows(given.quick)
    for row in found:
        print(
            f"{row['task']:20} {row['search']:22} loss {row['loss']:.4f}  cost {row['cost']:5.2f}  {row['seconds']:6.1f} s",
            {k: v for k, v in row.items() if k.startswith(("as_good", "against", "refused", "chose"))} or "",
        )
    if not given.quick:
        record = {
            "rows": found,
            "machine": f"{platform.machine()}, one thread",
            "date": datetime.now(UTC).date().isoformat(),
        }
        RESULTS.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
