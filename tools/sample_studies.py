"""Makes a store of sample studies that show everything the dashboard can show; the same bytes of results every time.

Run it: python tools/sample_studies.py samples.db

Methods decide as they would for real, but trainings are formulas and their workers live in a simulated hour, so that the
store is there in some seconds and holds a believable timeline.
"""

from __future__ import annotations

import argparse
import heapq
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import tunewright as tw
from tunewright.core.events import Record, Saved
from tunewright.scaling import Scale
from tunewright.store.base import Store
from tunewright.store.memory import MemoryStore
from tunewright.store.urls import open_store
from tunewright.study import Asked, Study

START = 1_795_000_000.0
HOSTILE = "<img src=x onerror=alert(1)>"
QUOTES = "\"double\" 'single' `back` \\ &amp; </script>"
LONG = "a_very_long_name_without_any_space_" * 6
FAR = "Größe · 大きさ · размер · 🎯"
Step = tuple[float, dict[str, float]]
Train = Callable[[Asked, "Film"], Iterator[Step]]


class Crash(Exception):
    """A simulated training fails with this text."""


@dataclass
class Film:
    """One study played by simulated workers.

    Args:
        study: The study, in memory.
        workers: Names of the workers.
        trials: Trials to begin.
        rng: Randomness of the simulated world.
    """

    study: Study
    workers: list[str]
    trials: int
    rng: np.random.Generator
    clock: float = 0.0
    stamps: list[tuple[float, str]] = field(default_factory=list)
    memory: dict[tuple[int, int], float] = field(default_factory=dict)

    def stamp(self, worker: str) -> None:
        """Remembers when and by whom the newest records were made."""
        session = self.study.session
        new = session.store.last(session.info.id) - len(self.stamps)
        self.stamps.extend([(self.clock, worker)] * new)

    def play(self, train: Train, leave: int = 0) -> None:
        """Trains until enough trials have begun; the last ``leave`` that run are left running."""
        free = [(0.4 * i, i, worker) for i, worker in enumerate(self.workers)]
        busy: list[tuple[float, int, str, Asked, Iterator[Step], Step | Exception | None]] = []
        tie = len(free)
        while free or busy:
            if free and (not busy or free[0][0] <= busy[0][0]):
                self.clock, _, worker = heapq.heappop(free)
                asked = self._ask(worker)
                if asked is None:
                    if busy:
                        heapq.heappush(free, (busy[0][0] + 0.01, tie, worker))
                        tie += 1
                    continue
                course = train(asked, self)
            else:
                self.clock, _, worker, asked, course, told = heapq.heappop(busy)
                if len(busy) < leave and self._enough():
                    continue
                if not self._tell(asked, told, worker):
                    heapq.heappush(free, (self.clock + 0.3, tie, worker))
                    tie += 1
                    continue
            told = _next(course)
            wait = told[0] if isinstance(told, tuple) else 0.2
            heapq.heappush(busy, (self.clock + wait, tie, worker, asked, course, told))
            tie += 1

    def _enough(self) -> bool:
        return len(self.study.trials) >= self.trials

    def _ask(self, worker: str) -> Asked | None:
        if self._enough():
            return None
        asked = self.study.ask()
        self.stamp(worker)
        return asked

    def _tell(self, asked: Asked, told: Step | Exception | None, worker: str) -> bool:
        """Passes on what a training said; returns whether it goes on."""
        if isinstance(told, Crash):
            self.study.tell(asked, outcome="failed", error=str(told))
        elif told is None:
            self.study.tell(asked)
        elif isinstance(told, tuple):
            metrics = dict(told[1])
            step = metrics.pop("step", None)
            if step is None:
                self.study.tell(asked, metrics)
            elif self.study.report(asked, int(step), **metrics):
                self.stamp(worker)
                return True
            else:
                name = f"sample-{asked.number}-{int(step)}"
                self.study.session.record(Saved(asked.number, asked.token, int(step), name))
                self.study.tell(asked)
        self.stamp(worker)
        return False


def _next(course: Iterator[Step]) -> Step | Exception | None:
    try:
        return next(course, None)
    except Crash as crash:
        return crash


def shoot(
    target: Store,
    name: str,
    space: tw.Space | dict[str, Any],
    train: Train,
    *,
    trials: int,
    workers: int = 4,
    hours_ago: float = 1.0,
    leave: int = 0,
    queued: dict[str, Any] | None = None,
    edit: Callable[[Study], None] | None = None,
    **settings: Any,
) -> None:
    """Plays a study in memory and copies it to a store, with simulated times and workers."""
    seed = settings.setdefault("seed", 0)
    study = Study.open(name, space, storage=MemoryStore(), **settings)
    begin = START - 3600 * hours_ago
    film = Film(study, [f"gpu-{i // 2}/{i % 2}" for i in range(workers)], trials, np.random.default_rng(seed))
    if queued is not None:
        study.session.enqueue(queued, key="defaults", by="defaults")
    film.stamp("laptop")
    film.play(train, leave)
    if edit is not None:
        edit(study)
        film.stamp("laptop")
    info = study.session.info
    made = target.create(name, info.spec, created=begin)
    records = study.session.store.read(info.id)
    target.graft(
        made.id,
        [
            Record(r.seq, begin + at, worker, r.event)
            for r, (at, worker) in zip(records, film.stamps, strict=True)
        ],
    )
    if leave:
        held = [(lease.trial, lease.token) for lease in target.leases(made.id)]
        target.renew(made.id, held, lease=30 * 86400.0)
    study.close()


# ---------------------------------------------------------------------- the studies


def _bowl(value: float, middle: float, width: float) -> float:
    return ((math.log10(value) - middle) / width) ** 2


def digits_space() -> tw.Space:
    """Three model families with parameters of their own."""
    return tw.Space(
        lr=tw.Float(1e-5, 1e-1, log=True),
        batch=tw.Order([16, 32, 64, 128, 256]),
        model=tw.Choice(
            {
                "linear": None,
                "net": tw.Space(
                    layers=tw.Int(1, 5), width=tw.Int(16, 512, log=True), dropout=tw.Float(0, 0.6)
                ),
                "conv": tw.Space(filters=tw.Int(8, 128, log=True), dropout=tw.Float(0, 0.6)),
            }
        ),
        optimizer=tw.Choice(["sgd", "adam", "lion"]),
        decay=tw.Float(1e-7, 1e-2, log=True),
    )


def _floor(c: dict[str, Any]) -> float:
    """Error in percent that a configuration reaches in the end."""
    family = {"linear": 7.5, "net": 2.6, "conv": 1.1}[str(c["model"])]
    middle = {"sgd": -1.6, "adam": -2.9, "lion": -3.6}[str(c["optimizer"])]
    error = family + 1.9 * _bowl(float(c["lr"]), middle, 1.0) + 0.12 * _bowl(float(c["decay"]), -4.2, 1.4)
    error += 0.15 * abs(math.log2(c["batch"]) - 5.5)
    drop = next((float(v) for k, v in c.items() if "dropout" in k), None)
    if drop is not None:
        error += 6.0 * (drop - 0.22) ** 2
    return error


def train_digits(asked: Asked, film: Film) -> Iterator[Step]:
    """Curves that saturate; a fast rate diverges, a wide network runs out of memory."""
    c, rng = asked.params, np.random.default_rng(asked.number)
    wide = next((v for k, v in c.items() if k.endswith("width")), 0)
    kind = next((v for k, v in c.items() if k == "model"), "linear")
    pace = {"linear": 0.6, "net": 1.4, "conv": 3.1}[str(kind)] * (32 / c["batch"]) ** 0.3
    first = film.study.trials[asked.number].step + 1
    if wide > 250 and c["batch"] >= 128:
        raise Crash(
            'Traceback (most recent call last):\n  File "train.py", line 41, in step\n    loss.backward()\n'
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.41 GiB"
        )
    for step in range(first, 28):
        error = _floor(c) + (90 - _floor(c)) * math.exp(
            -0.55 * step**0.8 * (1 + 0.15 * math.log10(c["lr"] * 1e4))
        )
        error += float(rng.normal(0, 0.12))
        if (c["lr"] > 0.04 and c["optimizer"] != "sgd") or asked.number % 31 == 7:
            error = 120 + 900 * c["lr"] * step + 90 * rng.random()
        if asked.number % 23 == 11 or (asked.number % 9 == 4 and step == 5):
            raise Crash("ValueError: Input contains NaN in batch 211; check the data.")
        yield (
            pace,
            {
                "step": step,
                "error": max(0.4, error),
                "train_loss": max(0.01, error / 40),
                "seconds": pace * step,
            },
        )


def train_pair(asked: Asked, film: Film) -> Iterator[Step]:
    """Error against latency: wide is accurate and slow."""
    c, rng = asked.params, np.random.default_rng(asked.number)
    size = c["width"] * c["depth"]
    error = 0.02 + 0.5 / math.sqrt(size) + 0.06 * _bowl(c["lr"], -2.7, 1.0) + abs(float(rng.normal(0, 0.004)))
    latency = 0.4 + 0.012 * size * (0.55 if c["quantize"] else 1.0) + abs(float(rng.normal(0, 0.2)))
    error += 0.012 * c["quantize"]
    yield 20 + latency, {"error": error, "latency": latency}


def train_member(asked: Asked, film: Film) -> Iterator[Step]:
    """A member of a population, whose best rate falls while it is trained."""
    c = asked.params
    trial = film.study.trials[asked.number]
    step = max(trial.step, trial.parent[1] if trial.parent else 0)
    loss = film.memory.get((asked.number, step), film.memory.get(trial.parent or (-1, 0), 2.0))
    rng = np.random.default_rng([asked.number, step])
    while step < 60:
        wanted = -1.3 - 2.2 * step / 60
        gain = math.exp(-((math.log10(c["lr"]) - wanted) ** 2) / 0.3) * (1.1 - c["dropout"])
        loss = 0.08 + abs((loss - 0.08) * (1 - 0.05 * gain) + float(rng.normal(0, 0.004)))
        step += 1
        film.memory[asked.number, step] = loss
        yield 2.0 + 0.2 * rng.random(), {"step": step, "loss": loss}


def train_inside(asked: Asked, film: Film) -> Iterator[Step]:
    """A run that tunes its rates and its decay by their gradients, with an optimizer that chooses step sizes."""
    c, rng = asked.params, np.random.default_rng(asked.number)
    lr, decay, loss = np.array([c["start"], c["start"] * 2]), 1e-3, 2.3
    for step in range(1, 61):
        lr = lr * np.exp(0.12 * (np.log([0.08, 0.02]) - np.log(lr)) * c["outer"] * 4 + rng.normal(0, 0.03, 2))
        decay *= math.exp(-0.04 + float(rng.normal(0, 0.02)))
        loss = 0.12 + (loss - 0.12) * (1 - 0.06 * math.exp(-abs(math.log(lr[0] / 0.08))))
        told = {"loss": loss, "hyper.lr.0": lr[0], "hyper.lr.1": lr[1], "hyper.decay": decay}
        told |= {"chosen.lr": 0.1 * min(1, step / 10) * (1 + math.cos(math.pi * step / 60)) / 2 + 1e-5}
        told |= {"chosen.momentum": 0.85 + 0.1 * step / 60}
        yield 1.5, {"step": step, **{k: float(v) for k, v in told.items()}}


def train_hostile(asked: Asked, film: Film) -> Iterator[Step]:
    """Names and texts that a careless page would take for its own."""
    c = asked.params
    if asked.number % 5 == 3:
        raise Crash(f"{HOSTILE}\n<script>alert(2)</script>\n{QUOTES}\n{FAR}\n{LONG}")
    for step in range(1, 10):
        value = (c[HOSTILE] - 0.3) ** 2 + 0.2 * len(str(c[FAR])) / 40 + 1 / step + c[LONG] / 100
        yield 3.0, {"step": step, f"loss {HOSTILE}": value, QUOTES: value * 2}


def train_net(asked: Asked, film: Film) -> Iterator[Step]:
    """A plain regression loss, noisy."""
    c = asked.params
    value = (
        0.08
        + 0.05 * _bowl(c["lr"], -2.4, 1.0)
        + 0.04 * abs(math.log2(c["width"] / 128))
        + 0.2 * (c["dropout"] - 0.15) ** 2
    )
    yield 8.0, {"rmse": value + abs(float(film.rng.normal(0, 0.006)))}


SIZES = Scale(
    {"width": (64, 1024)}, [{"width": 64}, {"width": 128}, {"width": 256}], steps=2000, rule=("mup", "sp")
)


def train_sizes(asked: Asked, film: Film) -> Iterator[Step]:
    """Models of several widths, whose best rate falls with the width under standard parametrization; high rates diverge."""
    c, rng = asked.params, np.random.default_rng(asked.number)
    floor = 0.0 if c["rule"] == "mup" else 1.0
    for leg in SIZES.legs(0, asked.until or SIZES.high):
        doublings = math.log2(leg.stage.sizes["width"] / 64)
        away = math.log2(c["lr"]) + 7.5 + floor * doublings
        if away > 5:
            raise Crash("FloatingPointError: the loss is not finite at step 140.")
        for step in range(leg.first + 200, leg.last + 1, 200):
            loss = 1.62 - 0.11 * doublings + 0.012 * floor + 0.018 * away**2 + 0.3 * (c["dropout"] - 0.1) ** 2
            loss += 1.4 * math.exp(-step / 450) + float(rng.normal(0, 0.006))
            yield 1.0 + 2.0**doublings, {"step": leg.stage.point(step), "loss": loss}


def _notes(study: Study) -> None:
    best = study.best.number
    study.note("Second search, with lion added. The first one stopped at 2.1 %.")
    study.note("Candidate for release; train again on fresh seeds.", best)


def net_space() -> tw.Space:
    """Three numbers."""
    return tw.Space(
        lr=tw.Float(1e-5, 1e-1, log=True), width=tw.Int(16, 512, log=True), dropout=tw.Float(0.0, 0.6)
    )


def make(target: Store) -> list[str]:
    """Makes every sample study in a store.

    Returns:
        Their names.
    """
    default = {"lr": 1e-3, "batch": 32, "model": "linear", "optimizer": "sgd", "decay": 1e-4}
    shoot(
        target, "digits", digits_space(), train_digits, trials=240, workers=4, hours_ago=2, queued=default,
        minimize="error", steps=(3, 27), method="asha", edit=_notes,
    )  # fmt: skip
    pair = tw.Space(
        lr=tw.Float(1e-5, 1e-1, log=True),
        width=tw.Int(8, 256, log=True),
        depth=tw.Int(1, 8),
        quantize=tw.Bool(),
    )
    shoot(
        target, "error and latency", pair, train_pair, trials=120, workers=3, hours_ago=30,
        minimize=["error", "latency"], method="nsga2",
    )  # fmt: skip
    member = tw.Space(lr=tw.Float(1e-4, 1e-1, log=True), dropout=tw.Float(0.0, 0.6))
    shoot(
        target, "population", member, train_member, trials=90, workers=6, hours_ago=50,
        minimize="loss", steps=(10, 60), method="pbt", options={"size": 10, "interval": 10},
    )  # fmt: skip
    inside = tw.Space(start=tw.Float(1e-4, 1e-1, log=True), outer=tw.Float(0.05, 0.5))
    shoot(
        target, "rates tuned inside", inside, train_inside, trials=10, workers=2, hours_ago=70,
        minimize="loss", steps=60, method="random",
    )  # fmt: skip
    for seed in range(3):
        for method in ("tpe", "random"):
            shoot(
                target, f"net-{method}-{seed}", net_space(), train_net, trials=40, workers=2, hours_ago=90 + seed,
                minimize="rmse", method=method, seed=seed,
            )  # fmt: skip
    hostile: dict[str, Any] = {HOSTILE: tw.Float(0.0, 1.0), QUOTES: tw.Choice([HOSTILE, QUOTES, "plain"]), LONG: tw.Int(0, 9),
               FAR: tw.Choice(["短い", LONG, FAR, "עברית"])}  # fmt: skip
    shoot(
        target, f"hostile {HOSTILE} {QUOTES[:20]}", tw.Space(hostile), train_hostile, trials=30, workers=2,
        hours_ago=5, minimize=f"loss {HOSTILE}", steps=9, method="random",
        edit=lambda s: s.note(f"{HOSTILE} {QUOTES} {FAR}", 1),
    )  # fmt: skip
    shoot(
        target, "running", digits_space(), train_digits, trials=9, workers=3, hours_ago=0.02, leave=3,
        minimize="error", steps=(1, 27), method="tpe",
    )  # fmt: skip
    shoot(
        target, "small to large", {"lr": tw.Float(1e-4, 1.0, log=True), "dropout": tw.Float(0.0, 0.4)}, train_sizes,
        trials=70, workers=4, hours_ago=8, minimize="loss", scale=SIZES, method="random",
    )  # fmt: skip
    shoot(target, "empty", net_space(), train_net, trials=0, minimize="rmse", method="tpe", hours_ago=0.01)
    return [info.name for info in target.studies()]


def main() -> None:
    """Makes the store that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", help="SQLite file to make; one that is there is replaced")
    path = Path(parser.parse_args().store)
    for old in path.parent.glob(path.name + "*"):
        if old.is_file():
            old.unlink()
    store = open_store(str(path))
    for name in make(store):
        sys.stdout.write(f"{name}\n")
    store.close()


if __name__ == "__main__":
    main()
