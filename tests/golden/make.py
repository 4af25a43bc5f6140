"""Makes the stores that later versions must be able to open: ``python tests/golden/make.py FOLDER``.

Run once for every version of the file format, when that version is new, and never again for an old one: what is here was
written by the version that it is named after. ``expected.json`` says what must be read from it.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import tunewright as tw
from tunewright.core.events import Amended, Dropped, Ended, Interrupted, Noted, Reported, Saved, encode_event
from tunewright.store import blobs, clock
from tunewright.store.copying import digest
from tunewright.store.sqlite import SqliteStore


def space(deepest: int) -> tw.Space:
    """Four kinds of parameters, one of them under a condition."""
    return tw.Space(
        lr=tw.Float(1e-5, 1e-1, log=True),
        depth=tw.Int(1, deepest),
        opt=tw.Choice(["adam", "sgd", "größe"]),
        nesterov=tw.Bool(),
        when={"nesterov": {"opt": "sgd"}},
    )


FAR = 1e9  # seconds: no lease of a golden store is over before it is opened


class Weights:
    """A checkpoint of one number."""

    def __init__(self) -> None:
        self.value = 0.0

    def state_dict(self) -> dict[str, float]:
        """The number."""
        return {"value": self.value}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Takes it back."""
        self.value = state["value"]


def train(trial: tw.Attempt) -> dict[str, float] | None:
    """Saves at every step; one trial in eight fails."""
    weights = Weights()
    trial.keep(weights=weights)
    if trial.number % 8 == 5:
        return {"loss": float("nan")}
    for step in trial.steps():
        weights.value += trial["lr"] * trial["depth"]
        trial.report(step, loss=weights.value + 1 / step, size=float(trial["depth"]))
    return None


def train_x(trial: tw.Attempt) -> None:
    """A straight line."""
    for step in trial.steps():
        trial.report(step, loss=trial["x"] + 1 / step)


def deep(store: SqliteStore) -> None:
    """Early stopping, checkpoints, a queue, a newer space, longer trainings, and most kinds of events."""
    with tw.Study.open(
        "deep",
        space(8),
        minimize="loss",
        steps=9,
        limits={"size": 7.0},
        method="asha(tpe)",
        seed=3,
        storage=store,
    ) as study:
        study.enqueue({"lr": 0.01, "depth": 3}, key="mine")
        study.run(train, trials=16, progress="none", failures=None)
        study.note("half way", trial=2)
        study.session.keep()
        study.edit(space(12))
        study.session.extend(27)
        study.run(train, trials=22, progress="none", failures=None)
        study.enqueue({"lr": 0.02, "depth": 9, "opt": "adam"})
        open_ends(study)


def open_ends(study: tw.Study) -> None:
    """Leaves trials that run, wait and were given up, and facts that came too late."""
    session = study.session
    session.act_for("external/golden")
    session.policy = tw.Policy(lease=FAR)
    asked = [study.ask() for _ in range(4)]
    running, waiting, lost, bad = [a for a in asked if a is not None]
    folder = session.store.blobs(session.info.id)
    name = blobs.put(folder, f"t{running.number}-s1", b"golden")
    running.report(1, loss=0.75, size=2.0)
    session.record_all(
        [
            Saved(running.number, running.token, 1, name),
            Interrupted(waiting.number, waiting.token, "preempted", "told to go"),
            Ended(lost.number, lost.token, "lost", error="its worker was lost 3 times"),
            Reported(bad.number, bad.token, 1, {}, {"loss": "nan"}, {"loss": 0.5}, 1.25),
            Ended(bad.number, bad.token, "out_of_memory", None, 1, cost=2.5, error="boom"),
            Noted("late", {"reason": "too late", "event": {"kind": "ended"}}, lost.number),
        ]
    )
    kept = next(t for t in session.sync().trials if t.status == "paused" and t.checkpoint is not None)
    assert kept.checkpoint is not None
    session.record(Dropped(kept.id, kept.checkpoint[1], "given up by hand"))


def grown(store: SqliteStore) -> None:
    """Parameters declared while trials run, two objectives."""

    def measure(trial: tw.Attempt) -> dict[str, float]:
        x = trial.suggest_float("x", -1.0, 1.0)
        y = trial.suggest_int("y", 1, 4) if x > 0 else 0
        return {"f": x * x, "g": (x - 0.5) ** 2 + y}

    with tw.Study.open(
        "grown", minimize=["f"], maximize=["g"], method="random", seed=1, storage=store
    ) as study:
        study.run(measure, trials=6, progress="none")


def plain(store: SqliteStore) -> None:
    """Early stopping, ask and tell, and a trial that nobody has told about."""
    with tw.Study.open(
        "halted", {"x": tw.Float(0, 1)}, steps=4, method="median(random)", seed=5, storage=store
    ) as study:
        study.run(train_x, trials=12, progress="none")
    with tw.Study.open("plain", {"x": tw.Float(-5, 5)}, method="random", seed=7, storage=store) as study:
        study.session.act_for("external/golden")
        study.session.policy = tw.Policy(lease=FAR)
        for _ in range(5):
            trial = study.ask()
            assert trial is not None
            study.tell(trial, trial.params["x"] ** 2)
        trial = study.ask()
        assert trial is not None
        study.session.record(Amended(trial.number, {"x": -0.0}))


def summary(store: SqliteStore, name: str) -> dict[str, Any]:
    """What must be read again from a study."""
    with tw.Study.open(name, storage=store, exist="must") as study:
        session = study.session
        ledger = session.sync()
        records = store.read(session.info.id)
        best = None if ledger.problem.m > 1 else study.best
        return {
            "digest": digest(store, session.info.id),
            "method": study.method,
            "records": len(records),
            "kinds": dict(
                sorted(Counter(json.loads(encode_event(r.event))["kind"] for r in records).items())
            ),
            "counts": dict(sorted(study.counts.items())),
            "queue": len(ledger.queue),
            "decisions": ledger.decisions,
            "best": None if best is None else {"number": best.number, "metrics": best.metrics},
            "running": [[x.trial, x.token, x.worker] for x in store.leases(session.info.id)],
            "held": dict(sorted(ledger.held.items())),
            "snapshot": (store.load_snapshot(session.info.id) or (0, b""))[0],
            "verified": study.replay().verified,
        }


def main(folder: Path) -> None:
    """Writes the store, what must be read from it, and its logs as lines of JSON."""
    folder.mkdir(parents=True)
    # The names of workers are in the store for ever, and say nothing about where it was made.
    clock.place = lambda: "golden/0.1"  # type: ignore[assignment]
    store = SqliteStore(folder / "studies.db")
    deep(store)
    grown(store)
    plain(store)
    names = [info.name for info in store.studies()]
    expected = {name: summary(store, name) for name in names}
    for info in store.studies():
        lines = [
            json.dumps([r.seq, r.at, r.worker, json.loads(encode_event(r.event))], ensure_ascii=False)
            for r in store.read(info.id)
        ]
        spec = json.dumps({"spec": info.spec, "created": info.created}, ensure_ascii=False)
        (folder / f"{info.name}.jsonl").write_text("\n".join([spec, *lines]) + "\n", encoding="utf-8")
    store.close()
    (folder / "studies.db-lock").unlink(missing_ok=True)
    (folder / "expected.json").write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n")
    connection = sqlite3.connect(folder / "studies.db")
    connection.execute("VACUUM")
    connection.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
