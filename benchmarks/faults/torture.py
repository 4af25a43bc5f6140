"""Scenarios of the relbench harness as rows of the table: what to run, and which of its counts are broken promises."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from benchmarks import relbench
from benchmarks.faults.scenarios import Counts, Verdict
from benchmarks.postgres import free_port

TOLD = ("trials", "acked", "kills", "server_kills", "fenced", "max_ack_gap_s")
NAMES = {
    "acked": "acknowledged", "server_kills": "server kills", "fenced": "late results refused",
    "max_ack_gap_s": "longest pause of the whole in s",
}  # fmt: skip
REFUSALS = ("StudyExists", "DuplicatedStudyError")


@dataclass(frozen=True)
class Torture:
    """One scenario.

    Attributes:
        scenario: Its name in the harness.
        arguments: What it gets besides.
        quick: The same for a quick run.
        dropped: Whether evaluated results that were not recorded break a promise, as they do when no worker was killed.
        opts: Options of single systems, by adapter.
    """

    scenario: str
    arguments: tuple[str, ...] = ()
    quick: tuple[str, ...] = ()
    dropped: bool = False
    opts: tuple[tuple[str, tuple[str, ...]], ...] = ()


def run(torture: Torture, adapter: str, *, quick: bool, seed: int) -> Verdict:
    """Runs a scenario.

    Raises:
        RuntimeError: If the harness itself failed.
    """
    more = [a for prefix, options in torture.opts if adapter.startswith(prefix) for a in options]
    arguments = [torture.scenario, "--adapter", adapter, "--seed", str(seed), *torture.arguments]
    arguments += [*(torture.quick if quick else ()), *more]
    if adapter.startswith("optuna:"):
        arguments += ["--opt", f"port={free_port()}", "--opt", f"pgport={free_port()}"]
    done = relbench.run(arguments, capture=True, timeout=420)
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        raise RuntimeError(f"relbench said nothing: {done.stderr[-400:]}")
    found: dict[str, Any] = json.loads(lines[-1])
    if "HARNESS_ERROR" in found:
        raise RuntimeError(f"relbench failed: {found['HARNESS_ERROR']} {done.stderr[-400:]}")
    if torture.scenario == "create_race":
        return _starts(found)
    if torture.scenario == "signals":
        return _signals(found)
    broken = _promises(found, torture)
    return broken, {NAMES.get(key, key): found[key] for key in TOLD if key in found}


def _promises(found: dict[str, Any], torture: Torture) -> Counts:
    unreadable = "STORAGE_UNREADABLE" in found
    broken = {
        "acknowledged results lost": found["acked"] if unreadable else found["lost_ack"],
        "results that nobody told": found["phantom"] + found["wrong_value"],
        "trials left running": found["stuck"] + found["ghost"],
        "numbers missing or double": 0
        if unreadable
        else found["vanished"] + found["dup_number"] + found["gap"],
        "workers crashed": found["crash"],
    }
    if torture.scenario == "server_hang":
        # The workers are killed at the end and nobody works after them.
        del broken["trials left running"]
        broken["workers silent 10 s after the server went on"] = int(found["max_ack_gap_s"] > 30)
    if torture.scenario == "fsize":
        # The worker that may not write is to fail; it is the next one that must go on.
        del broken["workers crashed"]
    if "items" in found:
        broken["items lost"] = found["lost_item"]
        broken["items done twice"] = found["double_done"]
    if torture.dropped:
        broken["results dropped"] = found["unacked_dropped"]
    for key, words in (
        ("read_while_full", "unreadable while full"),
        ("read_after_torn", "unreadable after the cut"),
    ):
        if key in found:
            broken[words] = int(found[key] != "ok")
    if "acks_after_free" in found:
        broken["no work after space returned"] = int(not found["acks_after_free"])
    if "same_params_evaluated_twice" in found:
        broken["configurations evaluated twice"] = found["same_params_evaluated_twice"]
    if "child_rc" in found:
        broken["children that hung or died"] = sum(
            part != "0" for part in found["child_rc"].strip("[]").split(", ")
        )
        broken["results missing"] = max(0, 100 - found["acked"])
        # A child that shares its parent's handle has no worker log to be found crashed in.
        del broken["workers crashed"]
    return broken


def _starts(found: dict[str, Any]) -> Verdict:
    """All of 16 must get the study when they may share it, and exactly one when they must not."""
    shared = sum(n for said, n in found["exist_ok"].items() if said.startswith("ok"))
    strict = found["strict"]
    winners = sum(n for said, n in strict.items() if said.startswith("ok"))
    strange = sum(
        n for said, n in strict.items() if not said.startswith("ok") and not any(r in said for r in REFUSALS)
    )
    broken = {
        "of 16 processes failed to start": 16 - shared,
        "winners too many or too few": abs(winners - 1),
        "refused for a strange reason": strange,
    }
    return broken, {"processes": 16}


def _signals(found: dict[str, Any]) -> Verdict:
    states = {name: value[0] for name, value in found.items() if isinstance(value, list)}
    return {"trials left running": sum(s == "RUNNING" for s in states.values())}, {"states": states}
