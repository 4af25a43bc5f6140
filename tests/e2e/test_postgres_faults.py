"""Answers of PostgreSQL that are lost after it has done the work."""

from __future__ import annotations

from typing import Any

import pytest

from tunewright.core.events import Ended, Event, Started
from tunewright.store.pg_line import Line, Lost
from tunewright.store.postgres import PostgresStore

ME = "external/me"


def lose(monkeypatch: pytest.MonkeyPatch, after: int, answers: int) -> list[int]:
    """Loses answers, after the first few; the list counts them down."""
    left, seen, run = [answers], [0], Line.run

    def losing(line: Line, *arguments: Any) -> Any:
        found = run(line, *arguments)
        seen[0] += 1
        if left[0] and seen[0] > after:
            left[0] -= 1
            raise Lost("cut by the test", sent=True)
        return found

    monkeypatch.setattr(Line, "run", losing)
    return left


@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("answers", [1, 2, 3])
def test_decision_whose_answers_are_lost_is_taken_once(
    after: int, answers: int, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when the answer to the question whether it was taken is lost."""
    store = PostgresStore(postgres_url)
    study = store.create("s", {}).id
    store.append(study, [Started(0, {})], worker=ME)
    asked: list[int] = []

    def choose(tail: object, expired: object) -> list[Event]:
        asked.append(1)
        return [Started(1, {"x": 0.5})]

    with monkeypatch.context() as patch:
        left = lose(patch, after, answers)
        (record,) = store.decide(study, 1, choose, worker=ME)
        assert left == [0]
    assert [(r.seq, r.event) for r in store.read(study)] == [(1, Started(0, {})), (2, Started(1, {"x": 0.5}))]
    assert record.seq == 2
    assert len(asked) == 1
    store.close()


@pytest.mark.parametrize("answers", [1, 2, 3])
def test_result_whose_answers_are_lost_is_recorded_once(
    answers: int, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = PostgresStore(postgres_url)
    study = store.create("s", {}).id
    store.append(study, [Started(0, {})], worker=ME)
    with monkeypatch.context() as patch:
        left = lose(patch, 0, answers)
        store.append(study, [Ended(0, 1, metrics={"loss": 0.5})], worker=ME)
        assert left == [0]
    assert len(store.read(study)) == 2
    store.close()
