"""What predicting the choice reaches: parametrizations, their checks, scaling laws, models of time, transfer.

``python -m benchmarks.scaling --quick`` is a look of a few minutes. Without it every cell that is not stored yet is measured and
stored in benchmarks/results/scaling.json as it comes (one thread); ``--cells rates/mlp`` measures only those whose names begin so,
``--again`` also those that are stored; all of them take about an hour and a half. ``--wide`` trains letters at more widths and for longer.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import json
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results" / "scaling.json"
OTHERS = ("scaling_laws", "scaling_time", "scaling_batch", "scaling_proxy")
_HEAD = ("what", "reference", "to reach", "measured", "reached")


@dataclass(frozen=True, slots=True)
class Ladder:
    """Sizes and lengths of the trainings.

    Attributes:
        coordinates: Widths of coordinate checks.
        mlp: Widths of the network on digits.
        letters: Widths of the transformer over letters, two blocks deep.
        blocks: Its depths, 32 units wide.
        seeds: Trainings of each kind.
        mlp_steps: Their length on digits.
        letters_steps: The same on letters.
        rules: Compared on digits, over width on letters, over depth on letters.
    """

    coordinates: tuple[int, ...] = (32, 64, 128, 256, 512, 1024, 2048)
    mlp: tuple[int, ...] = (32, 128, 512)
    letters: tuple[int, ...] = (32, 128, 512)
    blocks: tuple[int, ...] = (2, 4, 8, 16)
    seeds: int = 5
    mlp_steps: int = 200
    letters_steps: int = 120
    rules: tuple[tuple[str, ...], ...] = (
        ("sp", "mup", "sp-layerwise", "u-mup", "mup-abc"),
        ("mup", "sp", "sp-layerwise", "u-mup"),
        ("mup", "depth-mup", "depthwise"),
    )


FULL = Ladder()
QUICK = Ladder(
    (32, 128, 512), (32, 64), (32, 64), (2, 4), 1, 30, 20, (("sp", "mup"), ("mup",), ("depth-mup",))
)
WIDE = Ladder(letters=(32, 64, 128, 256, 512), letters_steps=300)

# Measured before on the digits, Adam: changes of scores and of hidden units after 3 steps at 2^-7, widths 32 and 2,048; and best
# log2 rates of widths 32, 128 and 512.
_COORDINATES = {
    "sp": "scores .15 to 9.8, hidden .18 to 2.0",
    "mup": "scores .15 to .11, hidden .18 to .20",
    "sp-layerwise": "scores .15 to .70, hidden .18 to .20",
}
# Binary logarithm of what rates are multiplied by where a rule's have another natural size: u-muP's weights are all about 1.
_SHIFT = {"u-mup": 6}
# The same of the rates that coordinate checks step with.
_START = {"adam": -7.0, "sgd": -3.0, "kfac": -2.5, "shampoo": -1.5}
_BEST = {"sp": "-5, -6, -8", "mup": "-5, -5, -5", "sp-layerwise": "-5, -4, -5"}


@functools.cache
def _digits(rows: int) -> Callable[[int], Iterator[Any]]:
    import torch
    from sklearn.datasets import load_digits

    x, y = (torch.as_tensor(v) for v in load_digits(return_X_y=True))
    x = ((x - x.mean()) / x.std()).float()

    def batches(seed: int) -> Iterator[Any]:
        g = torch.Generator().manual_seed(seed)
        while True:
            chosen = torch.randint(0, len(x), (rows,), generator=g)
            yield x[chosen], y[chosen]

    return batches


@functools.cache
def _letters(rows: int) -> Callable[[int], Iterator[Any]]:
    import torch

    from tunewright.bench.language import Language, windows

    text = Language().text(200_000)

    def batches(seed: int) -> Iterator[Any]:
        rng = np.random.default_rng([seed, 5])
        while True:
            yield tuple(torch.from_numpy(v) for v in windows(text, 32, rows, rng))

    return batches


def _row(
    what: str, reference: str, reach: str, measured: str, reached: bool | None, **figures: Any
) -> dict[str, Any]:
    return {
        "what": what,
        "reference": reference,
        "to reach": reach,
        "measured": measured,
        "reached": reached,
        "figures": figures,
    }


def _family(kind: str) -> Any:
    from tunewright.bench.micro import CharTransformer, Mlp
    from tunewright.scaling import Family

    if kind == "mlp":
        return Family(Mlp, base={"width": 32, "depth": 2})
    return Family(CharTransformer, base={"width": 32, "depth": 2})


def _second_order(plan: Any, model: Any, lr: float) -> Any:
    """K-FAC or Shampoo, with an eps that follows the size."""
    from tunewright.optim import Kfac, Shampoo

    eps = {"kfac": 0.1, "shampoo": 1e-4}[plan.optimizer]
    groups = plan.param_groups(lr, model=model, eps=eps)
    if plan.optimizer == "kfac":
        return Kfac(groups, model, momentum=0.0, eps=eps)
    return Shampoo(groups, momentum=0.0, eps=eps)


def coordinates(ladder: Ladder, rule: str, optimizer: str) -> dict[str, Any]:
    """Changes of scores and hidden units on the digits after three steps."""
    from tunewright.scaling.coordinates import coordinate_check

    second = optimizer in ("kfac", "shampoo")
    # Their steps take roots and inverses of matrices of the width
    widths = tuple(w for w in ladder.coordinates if w <= 1024 or not second)
    found = coordinate_check(
        _family("mlp"),
        rule,
        _digits(256),
        sizes=widths,
        seeds=range(ladder.seeds),
        optimizer=optimizer,  # type: ignore[arg-type]
        lr=2.0 ** (_SHIFT.get(rule, 0) + _START[optimizer]),
        make=_second_order if second else None,
    )
    ends = {}
    for name, module in (("scores", "output"), ("hidden", "activation#2")):
        values = np.exp(np.log(found.changes[:, :, -1, found.modules.index(module)]).mean(axis=1))
        ends[name] = [float(v) for v in values]
    measured = ", ".join(f"{n} {v[0]:.2g} to {v[-1]:.2g}" for n, v in ends.items())
    name, steepest = found.worst
    wanted = rule not in ("sp", "sp-layerwise", "sp-no-alignment", "ntk", "mean-field")
    return _row(
        f"coordinate check, {rule}, {optimizer}, widths {widths[0]} to {widths[-1]}",
        _COORDINATES.get(rule, "-") if optimizer == "adam" else "-",
        "no slope beyond 1/4" if wanted else "a slope beyond 1/4 is shown where the rule's theory has one",
        f"{measured}; steepest slope {steepest:+.2f} at {name}",
        found.passed if wanted else None,
        widths=list(widths),
        seeds=ladder.seeds,
        slopes=found.slopes,
        **ends,
    )


def rates(ladder: Ladder, kind: str, rule: str) -> dict[str, Any]:
    """Best rates over sizes."""
    from tunewright.scaling.rates import rate_check
    from tunewright.scaling.rules import rule as named

    along, sizes = ("depth", ladder.blocks) if kind == "letters-depth" else ("width", ladder.letters)
    up = _SHIFT.get(rule, 0)
    more: dict[str, Any] = {
        "rates": tuple(2.0 ** (k + up) for k in range(-10, -3)),
        "steps": ladder.letters_steps,
    }
    batches = _letters(4)
    if kind == "mlp":
        sizes, batches = ladder.mlp, _digits(32)
        more = {"rates": tuple(2.0 ** (k + up) for k in range(-10, -2)), "steps": ladder.mlp_steps}
    found = rate_check(
        _family(kind),
        rule,
        batches,
        along=along,
        sizes=sizes,
        seeds=range(ladder.seeds),
        optimizer="adam",
        **more,
    )
    claims = along in named(rule).transfers
    places = ", ".join(f"{v:g}" for v in np.log2(found.best))
    task = "network on digits" if kind == "mlp" else "transformer over letters"
    return _row(
        f"best log2 rate, {task}, {along} {', '.join(map(str, sizes))}, {rule}",
        _BEST.get(rule, "-") if kind == "mlp" else "-",
        "a shift of one step at most" if claims else "no transfer is claimed",
        f"{places}; loss {found.mean[-1].min():.4f} at the largest, the base's rate costs {found.regret[-1]:.4f}",
        found.passed if claims else None,
        **{
            k: v
            for k, v in found.to_dict().items()
            if k in ("best", "intervals", "shifts", "regret", "seconds")
        },
        mean=[[float(v) for v in row] for row in np.where(np.isfinite(found.mean), found.mean, -1.0)],
        steps=more["steps"],
        seeds=ladder.seeds,
    )


def against_mup() -> dict[str, Any]:
    """Rates and first variances beside those that were read off microsoft/mup 1.0.0."""
    from tests.reference import test_scaling_mup as golden

    worst = 0.0
    for width, table in golden.MUP.items():
        model = golden.Network(width)
        plan = golden.plan_of(model, "adamw")
        modules = dict(model.named_modules())
        for name, kind in golden.KINDS.items():
            entry = plan.entries[name]
            usual = (3 * modules[name.rpartition(".")[0]].weight.shape[1]) ** -0.5 * table[kind][4]
            worst = max(worst, abs(entry.lr - table[kind][0]), abs(entry.std**2 / usual**2 - 1))
    return _row(
        "against microsoft/mup 1.0.0 on the same network",
        "its rates and first variances",
        "equal to 1e-6",
        f"largest difference {worst:.1g}",
        worst <= 1e-6,
        difference=worst,
    )


def cells(ladder: Ladder) -> dict[str, Callable[[], dict[str, Any]]]:
    """What is measured, by name, the most valuable first."""
    from tunewright.scaling.rules import RULES
    from tunewright.scaling.rules import rule as named

    out: dict[str, Callable[[], dict[str, Any]]] = {"mup": against_mup}
    over = dict(zip(("mlp", "letters-width", "letters-depth"), ladder.rules, strict=True))
    for rule in over["mlp"]:
        out[f"rates/mlp/{rule}"] = functools.partial(rates, ladder, "mlp", rule)
    for rule in RULES:
        for optimizer in _START:
            # Those that step by the second order are slow at great widths, and only two rules are for them
            usual = "adam" if "adam" in named(rule).optimizers else "sgd"
            if optimizer in named(rule).optimizers and (optimizer == usual or rule in ("sp", "second-order")):
                out[f"coordinates/{rule}/{optimizer}"] = functools.partial(
                    coordinates, ladder, rule, optimizer
                )
    for kind in ("letters-width", "letters-depth"):
        for rule in over[kind]:
            out[f"rates/{kind}/{rule}"] = functools.partial(rates, ladder, kind, rule)
    return out


def others(quick: bool) -> list[dict[str, Any]]:
    """Rows of the other benchmarks of this kind: measured in the quick run, as stored otherwise."""
    out = []
    for name in OTHERS:
        path = RESULTS.with_name(f"{name}.json")
        try:
            found = (
                importlib.import_module(f"benchmarks.{name}").rows(True)
                if quick
                else json.loads(path.read_text())["rows"]
            )
        except Exception as error:
            out.append(_row(name, "-", "-", f"not measured: {error}", None))
            continue
        out += [_told(name, row) for row in found]
    return out


def _told(name: str, row: dict[str, Any]) -> dict[str, Any]:
    """A row of another benchmark in the words of this one."""
    if "what" in row:
        return {"to reach": "-", "figures": {}, **row}
    if "model" in row:
        said = f"mean error {100 * row['mean_error']:.1f} %, in range {row.get('in_range', float('nan')):.2f}"
        return _row(f"step time by {row['model']}", "FLOPs alone", "half of the FLOPs' error", said, None)
    said = f"loss {row['loss']:.4f} at {row['cost']:.2f} of a target's training"
    return _row(
        f"{row['task']}: {row['search']}",
        "direct tuning",
        "lower or equal loss at a fifth of the cost",
        said,
        None,
    )


def show(rows: Sequence[dict[str, Any]]) -> None:
    """Prints the table."""
    words = {True: "yes", False: "NO", None: ""}
    for row in rows:
        print(
            f"{row['what']}\n    reference {row['reference']}; to reach {row['to reach']}\n    measured  {row['measured']} "
            f"{words[row['reached']]}".rstrip(),
            flush=True,
        )


def measured(ladder: Ladder, start: str, *, again: bool) -> dict[str, Any]:
    """Measures cells and stores each as it comes."""
    for name, cell in cells(ladder).items():
        if not name.startswith(start) or (name in _stored()["cells"] and not again):
            continue
        began = time.process_time()
        row = cell()
        row["cpu_seconds"] = round(time.process_time() - began, 1)
        stored = _stored()  # read again: another piece may have been measured meanwhile
        stored["cells"][name] = _short(row)
        stored["machine"] = f"{platform.machine()}, one thread"
        stored["date"] = datetime.now(UTC).date().isoformat()
        RESULTS.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
        show([row])
    return _stored()


def _stored() -> dict[str, Any]:
    found: dict[str, Any] = (
        json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {"cells": {}}
    )
    return found


def _short(value: Any) -> Any:
    """The same with four digits of every number."""
    if isinstance(value, dict):
        return {k: _short(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_short(v) for v in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main(argv: list[str] | None = None) -> int:
    """Measures, prints and stores."""
    import torch

    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes, one seed; nothing is stored")
    parser.add_argument("--wide", action="store_true", help="letters at more widths, trained for longer")
    parser.add_argument("--cells", default="", metavar="START", help="only cells whose name begins so")
    parser.add_argument("--again", action="store_true", help="also those that are stored")
    given = parser.parse_args(argv)
    torch.set_num_threads(1)
    if given.quick:
        show([cell() for name, cell in cells(QUICK).items() if name.startswith(given.cells)])
        if not given.cells:
            show(others(True))
        return 0
    found = measured(WIDE if given.wide else FULL, given.cells, again=given.again)
    print("\n" + " | ".join(_HEAD))
    show([*found["cells"].values(), *others(False)])
    return 0


if __name__ == "__main__":
    sys.exit(main())
