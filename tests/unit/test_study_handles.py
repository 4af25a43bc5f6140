"""A handle on a study that goes to another process, and many trials at once."""

from __future__ import annotations

import multiprocessing
import pickle
from pathlib import Path

import pytest

import tunewright as tw
from tunewright.core.algorithm import Action, Start
from tunewright.core.events import Noted
from tunewright.errors import ConfigError

SPACE = {"x": tw.Float(0, 1)}


def opened(storage: str | Path, **options: object) -> tw.Study:
    return tw.Study.open("s", SPACE, method="random", storage=storage, **options)  # type: ignore[arg-type]


def one_trial(study: tw.Study, done: object) -> None:
    asked = study.ask()
    assert asked is not None
    asked.tell(asked.params["x"])
    done.put(asked.number)  # type: ignore[attr-defined]


def test_a_handle_works_in_a_process_that_it_was_sent_to(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    with opened(tmp_path / "s.db") as study:
        done = context.Queue()
        child = context.Process(target=one_trial, args=(study, done))
        child.start()
        number = done.get(timeout=60)
        child.join(timeout=60)
        assert study.trials[number].status == "completed"


def test_a_handle_keeps_its_policy_and_place(tmp_path: Path) -> None:
    with opened(tmp_path / "s.db", policy=tw.Policy(lease=7.0)) as study:
        again = pickle.loads(pickle.dumps(study))
        assert again.name == "s"
        assert again.session.policy.lease == 7.0
        asked = again.ask()
        assert asked is not None
        assert study.trials[asked.number].status == "running"
        again.close()


def test_a_study_in_memory_stays_where_it_is() -> None:
    with pytest.raises(ConfigError, match="storage='studies.db'"):
        pickle.dumps(opened("memory"))


@pytest.mark.parametrize("place", ["memory", "file"])
def test_many_trials_at_once_are_the_same_as_one_by_one(tmp_path: Path, place: str) -> None:
    at_once = opened("memory" if place == "memory" else tmp_path / "a.db")
    singly = opened("memory")
    many = at_once.ask_many(5)
    one = [singly.ask() for _ in range(5)]
    assert [a.params for a in many] == [a.params for a in one if a is not None]
    told = at_once.tell_many([(a, a.params["x"]) for a in many])
    assert [t.status for t in told] == ["completed"] * 5
    assert at_once.replay().verified == 5
    starts = [t.at for t in at_once.trials]
    records = at_once.session.store.read(at_once.session.info.id)
    assert starts == [r.at for r in records[:5]]
    assert at_once.counts == {"completed": 5}


def test_many_trials_serve_the_queue_first() -> None:
    study = opened("memory")
    for i in range(3):
        study.enqueue({"x": i / 10}, key=str(i))
    study.enqueue({"x": 0.0}, key="0")
    assert [a.params["x"] for a in study.ask_many(3)] == [0.0, 0.1, 0.2]
    assert len(study.ask_many(2)) == 2


def test_many_trials_wait_for_a_method_that_thinks() -> None:
    study = tw.Study.open("s", SPACE, method="bayes", storage="memory")
    many = study.ask_many(3)
    assert len({a.params["x"] for a in many}) == 3


def test_a_bad_result_among_many_leaves_all_untold() -> None:
    study = opened("memory")
    many = study.ask_many(2)
    with pytest.raises(ConfigError):
        study.tell_many([(many[0], 0.5), (many[1], {"other": 1.0})])
    assert study.counts == {"running": 2}


def test_many_needs_a_number() -> None:
    with pytest.raises(ConfigError, match="count"):
        opened("memory").ask_many(0)


class Overtaken:
    """A method of two trials, to see what is begun when the log went on."""

    deliberate = False

    def init(self, problem: object) -> int:
        return 0

    def tell(self, state: int, events: object) -> int:
        return state + len(list(events))  # type: ignore[call-overload]

    def ask(self, state: int, slots: int, rng: object) -> tuple[Action, ...]:
        return (Start({"x": min(1.0, state / 10)}),) if slots else ()


def test_decisions_taken_ahead_are_forgotten_when_the_log_went_on() -> None:
    """The store calls ``choose`` again with what came in between; nothing of the first try may stay."""
    study = tw.Study.open("s", SPACE, method=Overtaken(), storage="memory")
    session, store = study.session, study.session.store
    plain = store.decide

    def twice(key: int, after: int, choose: object, **rest: object) -> object:
        choose([], [])  # type: ignore[operator]
        store.append(key, [Noted("n", {})], worker="external/b")
        return plain(key, after, choose, **rest)  # type: ignore[arg-type]

    store.decide = twice  # type: ignore[method-assign,assignment]
    many = study.ask_many(3)
    store.decide = plain  # type: ignore[method-assign]
    assert [a.number for a in many] == [0, 1, 2]
    fresh = tw.Study.open("t", SPACE, method=Overtaken(), storage="memory")
    assert len(fresh.ask_many(3)) == 3
    assert [t.id for t in study.trials] == [0, 1, 2]
    assert session.ledger.cursor == store.last(session.info.id)
