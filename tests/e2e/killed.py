"""Runs an example in child processes that are killed at given places; a program of its own, since it forks.

Usage: killed.py EXAMPLE.py FOLDER METHOD PLACE... ; each place is ``after:N`` (right after the N-th append of that
process), ``save:N`` (before its N-th checkpoint file gets its name) or ``saved:N`` (right after). The processes follow
on each other; the last one runs to the end. Prints one JSON document: how often it was killed, what came out, and what
comes out of a study that nobody interrupts.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import tunewright as tw
from tunewright.run.session import Session
from tunewright.store import blobs


def arm(place: str) -> None:
    """Has this process killed at a place."""
    kind, _, number = place.partition(":")
    left = [int(number)]
    owner: Any = Session if kind == "after" else blobs
    name = "_take" if kind == "after" else "_settle"
    true = getattr(owner, name)

    def counting(*args: Any) -> Any:
        left[0] -= 1
        if kind == "save" and not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        out = true(*args)
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return out

    setattr(owner, name, counting)


def child(work: Any) -> int:
    """How a child process ended that does this work."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def outcome(db: Path, method: str) -> dict[str, Any]:
    """Everything about a study that must not depend on interruptions."""
    with tw.Study.open(f"pytorch-{method}", storage=db, exist="must") as study:
        trials = [
            {
                "params": t.params,
                "parent": t.parent,
                "status": t.status,
                "metrics": t.metrics,
                "reports": [(r.step, r.metrics) for r in t.reports],
                "weights": digest(study.checkpoint(t)),
            }
            for t in study.trials
        ]
        folder = Path(study.session.store.blobs(study.session.info.id))
        held = study.session.ledger.held
        files = sorted(p.name for p in folder.iterdir() if p.is_file() and p.suffix != ".part")
        return {
            "trials": trials,
            "best": study.best.number,
            "verified": study.replay().verified,
            "loose": len(set(files) - set(held)),
            "missing": len(set(held) - set(files)),
        }


def digest(tree: Any) -> str:
    """Of all the weights in a checkpoint."""
    if tree is None:
        return ""
    weights = tree["state"]["parts"]["model"]
    return hashlib.sha256(b"".join(w.numpy().tobytes() for w in weights.values())).hexdigest()


def main() -> None:
    """Runs and prints."""
    example, folder, method, *places = sys.argv[1:]
    spec = importlib.util.spec_from_file_location("example", example)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    importlib.import_module("torch._dynamo")  # once, instead of at the first step of every child

    def run(db: Path, place: str | None) -> None:
        os.dup2(os.open(Path(folder) / "out.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
        os.dup2(1, 2)
        if place is not None:
            arm(place)
        sys.argv = [example, str(db), method]
        module.main()

    whole, cut = Path(folder) / "whole.db", Path(folder) / "cut.db"
    killed = sum(child(lambda p=place: run(cut, p)) == -signal.SIGKILL for place in places)
    for db in (cut, whole):
        assert child(lambda db=db: run(db, None)) == 0, (Path(folder) / "out.txt").read_text()[-3000:]
    print(json.dumps({"killed": killed, "cut": outcome(cut, method), "whole": outcome(whole, method)}))


if __name__ == "__main__":
    main()
