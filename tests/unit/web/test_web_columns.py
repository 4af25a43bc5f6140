"""Trials as columns: what they say is what the ledger says, in any number of steps, in few digits."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies import full_logs
from tunewright.core.domains import Bool, Choice, Float, Int, Order, Permutation
from tunewright.core.events import Amended, Edited, Ended, Paused, Record, Reported, Resumed, Started
from tunewright.core.problem import Fidelity, Limit, Objective, Problem
from tunewright.core.space import Space
from tunewright.core.trial import Ledger
from tunewright.web.columns import STATES, Columns, standing
from tunewright.web.digits import numbers, rounded, wholes
from tunewright.web.replies import encode

PROBLEM = Problem(Space(x=Float(0.0, 1.0)), (Objective("loss"),), Fidelity(9))
ROWS = ("state", "step", "began", "ended", "cost", "worker", "origin", "parent")


def sent(columns: Columns, since: int = 0) -> dict[str, Any]:
    """What a page gets."""
    found: dict[str, Any] = json.loads(encode(columns.since(since, 0.0)))
    return found


def merged(whole: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    """What a page makes of what it has and what it gets."""
    if more["whole"]:
        return more
    n = more["n"]

    def longer(old: list[Any], new: list[Any]) -> list[Any]:
        out = old + [None] * (n - len(old))
        for number, value in zip(more["number"], new, strict=True):
            out[number] = value
        return out

    have = {p["name"]: p["data"] for p in whole["params"]}
    return {
        **more,
        "whole": True,
        "number": list(range(n)),
        **{key: longer(whole[key], more[key]) for key in ROWS},
        "values": {k: longer(whole["values"].get(k, []), v) for k, v in more["values"].items()},
        "params": [{**p, "data": longer(have.get(p["name"], []), p["data"])} for p in more["params"]],
    }


@given(full_logs(PROBLEM), st.lists(st.integers(0, 60), max_size=4))
@settings(max_examples=30, deadline=None)
def test_columns_say_what_the_ledger_says_and_deltas_add_up(records: list[Record], cuts: list[int]) -> None:
    ledger, columns = Ledger(PROBLEM), Columns(PROBLEM)
    page: dict[str, Any] | None = None
    for low, high in zip([0, *sorted(cuts)], [*sorted(cuts), len(records)], strict=True):
        columns.fold(records[low:high])
        page = merged(page, sent(columns, page["rev"])) if page is not None else sent(columns)
    once = Columns(PROBLEM)
    once.fold(records)
    ledger.fold(records)
    whole = sent(once)
    assert page == whole
    assert whole["rev"] == ledger.cursor
    assert (once.counts, once.control) == ({k: v for k, v in ledger.counts.items() if v}, ledger.control)
    assert once.tags == ledger.tags.get(None, ())
    assert once.replicated == ledger.replicated
    if not ledger.replicated:
        assert once.best == (-1 if ledger.best is None else ledger.best.number)
    for trial, i in zip(ledger.trials, range(whole["n"]), strict=True):
        assert whole["states"][whole["state"][i]] == trial.status
        assert whole["step"][i] == trial.step
        assert (whole["began"][i], whole["ended"][i]) == (trial.at, trial.ended_at)
        assert whole["cost"][i] == trial.cost
        assert whole["workers"][whole["worker"][i]] == trial.worker
        assert whole["parent"][i] == (-1 if trial.parent is None else trial.parent[0])
        shown = {k: v[i] for k, v in whole["values"].items() if v[i] is not None}
        assert shown == pytest.approx(trial.metrics, rel=1e-5, abs=1e-300)
        params = {p["name"]: p["data"][i] for p in whole["params"] if p["data"][i] is not None}
        assert params == pytest.approx(trial.params, rel=1e-5, abs=1e-300)


@given(st.lists(st.floats(allow_subnormal=True), max_size=30))
def test_six_digits_are_those_of_the_decimal_number(values: list[float]) -> None:
    found = rounded(np.array(values, dtype=np.float64)).tolist()
    for value, short in zip(values, found, strict=True):
        if math.isfinite(value):
            # Halves may go either way; what counts is the distance and that the text is short.
            assert short == pytest.approx(value, rel=5.0000001e-6, abs=0.0)
            if abs(value) > 1e-300:
                assert short == float(f"{short:.6g}")
        else:
            assert repr(short) == repr(value)


def test_whole_numbers_are_sent_as_such_and_gaps_as_null() -> None:
    assert json.loads(encode(numbers(np.array([1.0, 2.0])))) == [1, 2]
    assert encode(numbers(np.array([1.0, 2.0]))) == b"[1,2]"
    assert encode(numbers(np.array([0.1234567, np.nan, np.inf]))) == b"[0.123457,null,null]"
    assert encode(wholes(np.array([123456789.0, np.nan]))) == b"[123456789,null]"
    assert encode(wholes(np.array([3.0]))) == b"[3]"


def folded(space: Space, *configs: dict[str, Any], problem: Problem | None = None) -> Columns:
    """Columns of trials that began."""
    columns = Columns(problem or Problem(space, (Objective("loss"),)))
    columns.fold(Record(i + 1, 10.0 + i, "w", Started(i, c, by="tpe")) for i, c in enumerate(configs))
    return columns


def test_every_kind_of_parameter() -> None:
    space = Space(
        lr=Float(1e-5, 1e-1, log=True),
        n=Int(1, 2000000),
        o=Choice(["adam", 1, True, None]),
        b=Bool(),
        s=Order([16, 32]),
        p=Permutation(["a", "b"]),
    )
    first = {"lr": 1e-3, "n": 1234567, "o": True, "b": False, "s": 32, "p": ["b", "a"]}
    found = sent(folded(space, first, {"o": 1, "p": ["b", "a"]}, {"o": None}))
    params = {p["name"]: p for p in found["params"]}
    assert {n: p["kind"] for n, p in params.items()} == {
        "lr": "float", "n": "int", "o": "choice", "b": "choice", "s": "ordinal", "p": "other",
    }  # fmt: skip
    assert (params["lr"]["log"], params["lr"]["low"], params["lr"]["high"]) == (True, 1e-5, 1e-1)
    assert params["n"]["data"] == [1234567, None, None]
    assert params["o"]["labels"] == ["adam", "1", "True", "None"]
    assert params["o"]["data"] == [2, 1, 3]
    assert params["s"]["data"] == [1, None, None]
    assert params["p"]["labels"] == ['["b","a"]']
    assert params["p"]["data"] == [0, 0, None]


def test_a_parameter_that_turns_out_to_be_no_number_is_sent_anew() -> None:
    columns = folded(Space(x=Float(0.0, 1.0)), {"x": 0.5, "y": 2}, {"x": 0.25, "y": 3})
    columns.fold([Record(3, 20.0, "w", Started(2, {"x": 1.0, "y": "many"}))])
    found = sent(columns, 2)
    assert found["whole"]
    y = next(p for p in found["params"] if p["name"] == "y")
    assert [y["labels"][code] for code in y["data"]] == ["2", "3", "many"]


def test_an_edited_space_has_new_bounds_and_keeps_old_labels() -> None:
    columns = folded(Space(x=Float(0.0, 1.0), o=Choice(["a", "b"])), {"x": 0.5, "o": "b"})
    new = Space(x=Float(0.0, 4.0), o=Choice(["c", "a"]), z=Int(1, 3))
    columns.fold(
        [
            Record(2, 20.0, "w", Edited(new.to_dict())),
            Record(3, 21.0, "w", Started(1, {"x": 3.0, "o": "c", "z": 2})),
        ]
    )
    found = sent(columns, 1)
    assert (found["whole"], found["number"]) == (False, [1])
    params = {p["name"]: p for p in found["params"]}
    assert params["x"]["high"] == 4.0
    assert params["o"]["labels"] == ["a", "b", "c"]
    assert (params["o"]["data"], params["z"]["data"]) == ([2], [2])


def test_best_meets_the_limits_and_several_objectives_have_none() -> None:
    problem = Problem(Space(x=Float(0.0, 1.0)), (Objective("acc", "maximize"),), None, (Limit("ms", 10.0),))
    columns = folded(problem.space, *[{"x": 0.1}] * 4, problem=problem)
    ends = [{"acc": 0.9, "ms": 20.0}, {"acc": 0.8, "ms": 5.0}, {"acc": 0.7, "ms": 1.0}, {"acc": 0.85}]
    columns.fold(Record(5 + i, 30.0, "w", Ended(i, i + 1, metrics=m)) for i, m in enumerate(ends))
    assert columns.best == 1
    two = Problem(problem.space, (Objective("a"), Objective("b")))
    assert folded(two.space, {"x": 0.1}, problem=two).best == -1


def test_a_position_that_is_not_known_gives_everything() -> None:
    columns = folded(Space(x=Float(0.0, 1.0)), {"x": 0.5}, {"x": 0.6})
    assert [sent(columns, since)["whole"] for since in (0, 1, 2, 3)] == [True, False, False, True]
    assert sent(columns, 2)["number"] == []


def test_a_trial_taken_back_measures_again_from_where_it_goes_on() -> None:
    columns = folded(PROBLEM.space, {"x": 0.5}, problem=PROBLEM)
    events = [Reported(0, 1, s, {"loss": float(s)}) for s in (1, 2, 3)]
    columns.fold(Record(2 + i, 20.0, "w", e) for i, e in enumerate(events))
    columns.fold([Record(5, 21.0, "v", Resumed(0, 1, by="retry"))])
    assert columns.value("loss").tolist() == [1.0]
    columns.fold([Record(6, 22.0, "v", Paused(0, 5, 1)), Record(7, 23.0, "v", Amended(0, {"x": 0.75}))])
    assert STATES[columns.state[0]] == "paused"
    assert columns.params["x"].data[0] == 0.75


def test_hundreds_of_trials_fit() -> None:
    columns = folded(Space(x=Float(0.0, 1.0)), *[{"x": i / 500} for i in range(500)])
    assert sent(columns)["params"][0]["data"][499] == 0.998
    assert columns.began[-1] == 509.0


@pytest.mark.parametrize(
    ("control", "running", "said"),
    [("pause", True, "paused"), ("stop", True, "running"), ("stop", False, "done"), (None, True, "running"), (None, False, "idle")],
)  # fmt: skip
def test_what_goes_on(control: str | None, running: bool, said: str) -> None:
    assert standing(control, running) == said
