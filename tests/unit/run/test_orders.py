"""People pause, resume and stop a study, note and tag; whoever runs it obeys, and the log says so."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tunewright as tw
from tunewright.core.events import Controlled, Started, Tagged
from tunewright.core.snapshot import dump, load
from tunewright.errors import ConfigError
from tunewright.run.orders import Remark

SPACE = {"x": tw.Float(0, 1)}


@pytest.fixture
def db(tmp_path: Path) -> str:
    return str(tmp_path / "s.db")


def opened(db: str, **more: Any) -> tw.Study:
    return tw.Study.open("s", SPACE, storage=db, method="random", **more)


def soon(what: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


def slow(x: float) -> float:
    time.sleep(0.02)
    return x


def wish(study: tw.Study) -> str | None:
    return study.control


def controls(study: tw.Study) -> list[str]:
    records = study.session.store.read(study.session.info.id)
    return [r.event.action for r in records if isinstance(r.event, Controlled)]


def test_a_pause_from_another_handle_holds_a_run_and_resume_lets_it_go_on(db: str) -> None:
    with opened(db) as study, opened(db) as other:
        heard: list[Any] = []

        def people() -> None:
            soon(lambda: len(other.trials) >= 3)
            assert other.pause()
            soon(lambda: not other.counts.get("running"))
            before = len(other.trials)
            time.sleep(0.4)
            heard.append((before, len(other.trials)))
            assert other.resume()

        thread = threading.Thread(target=people)
        thread.start()
        summary = study.run(slow, trials=30, progress="none")
        thread.join()
        ((before, after),) = heard
        assert before == after < 30
        assert (summary.why, summary.ended) == ("trials", 30)
        assert controls(study) == ["pause", "resume"]
        assert study.replay().verified == 30


def test_stop_ends_a_run_whose_trial_saves_and_goes_on_later(db: str) -> None:
    steps: list[int] = []

    def train(trial: tw.Attempt) -> None:
        for step in trial.steps():
            steps.append(step)
            time.sleep(0.01)
            trial.report(step, loss=trial["x"])

    with opened(db, steps=200) as study, opened(db) as other:

        def people() -> None:
            soon(lambda: len(steps) > 3)
            other.stop()

        thread = threading.Thread(target=people)
        thread.start()
        summary = study.run(train, trials=1, progress="none")
        thread.join()
        assert summary.why == "stopped"
        assert len(steps) < 200
        assert wish(study) == "stop"
        assert study.counts == {"waiting": 1}
        assert study.ask() is None
        steps.clear()
        assert study.run(lambda trial: trial.report(200, loss=0.5), trials=1, progress="none").ended == 1
        assert wish(study) is None
        assert controls(study) == ["stop", "resume"]


@pytest.mark.parametrize("method", ["random", "tpe", "bayes", "asha(random)"])
def test_while_paused_nothing_begins_with_any_method(method: str) -> None:
    study = tw.Study.open("s", SPACE, method=method, steps=9 if "asha" in method else None, storage="memory")
    for _ in range(3):
        asked = study.ask()
        assert asked is not None
        asked.tell(asked.params["x"])
    study.enqueue({"x": 0.5})
    lost = study.ask()
    assert lost is not None
    study.release(lost)
    study.pause()
    assert study.ask() is None
    assert study.ask_many(2) == []
    begun = len(study.trials)
    study.resume()
    again = study.ask()
    assert again is not None
    assert (again.number, begun) == (lost.number, 4)
    more = study.ask()
    assert more is not None
    assert study.replay().skipped <= 2


def test_a_decision_that_was_thought_before_the_pause_is_not_taken(
    db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tw.Study.open("s", SPACE, method="bayes", storage=db)
    other = tw.Study.open("s", storage=db, exist="must")
    think = study.session._plan

    def slowly(slots: int, limit: int | None) -> Any:
        plan = think(slots, limit)
        other.pause()
        return plan

    monkeypatch.setattr(study.session, "_plan", slowly)
    assert study.ask() is None
    records = study.session.store.read(study.session.info.id)
    assert not [r for r in records if isinstance(r.event, Started)]
    study.close()
    other.close()


def test_what_holds_already_is_not_recorded_again() -> None:
    study = tw.Study.open("s", SPACE, storage="memory")
    assert [study.resume(), study.pause(), study.pause(), study.stop(), study.resume()] == [
        False,
        True,
        False,
        True,
        True,
    ]
    assert controls(study) == ["pause", "stop", "resume"]


def test_notes_and_tags_are_kept_and_taken_back(db: str) -> None:
    with opened(db) as study:
        for _ in range(2):
            asked = study.ask()
            assert asked is not None
            asked.tell(1.0)
        study.note("first")
        study.note("second")
        study.note("odd one", trial=1)
        study.tag("paper", "final")
        study.tag("paper", "keep", remove="final")
        study.tag("look", trial=study.trials[0])
        study.tag("gone", trial=1)
        study.tag(remove=("gone", "never there"), trial=1)
    with opened(db) as study:
        assert study.notes.study == Remark("second", ("paper", "keep"))
        assert study.notes.trials == {0: Remark("", ("look",)), 1: Remark("odd one", ())}
        study.note("", trial=1)
        assert list(study.notes.trials) == [0]
        records = study.session.store.read(study.session.info.id)
        tagged = [r.event for r in records if isinstance(r.event, Tagged)]
        assert tagged[1] == Tagged(("keep",), ("final",))
        assert len(tagged) == 5


@pytest.mark.parametrize("bad", ["", " x", "a\nb", "x" * 61, 3])
def test_a_tag_is_short_printable_text(bad: Any) -> None:
    study = tw.Study.open("s", SPACE, storage="memory")
    with pytest.raises(ConfigError, match="A tag must be printable text of 1 to 60 characters"):
        study.tag(bad)
    with pytest.raises(ConfigError, match="At most 50 tags"):
        study.tag(*map(str, range(51)))


def test_a_note_is_about_a_trial_that_is_there() -> None:
    study = tw.Study.open("s", SPACE, storage="memory")
    for trial in (0, -1, True, "x"):
        with pytest.raises(ConfigError, match="must be about a trial of the study"):
            study.note("x", trial=trial)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match="must be about a trial of the study"):
            study.tag("x", trial=trial)  # type: ignore[arg-type]


def test_a_snapshot_keeps_them_and_an_earlier_one_is_still_read() -> None:
    study = tw.Study.open("s", SPACE, storage="memory")
    asked = study.ask()
    assert asked is not None
    plain = dump(study.session.sync())
    assert plain.endswith(b',"control":null,"tags":[]}')
    earlier = plain.replace(b'"version":7', b'"version":6').replace(b',"control":null,"tags":[]', b"")
    problem = study.session.origin
    back = load(problem, earlier)
    assert back is not None
    assert dump(back) == plain
    study.session.note("unknown", {"kind": "controlled", "action": "pause"})
    unsure = dump(study.session.sync()).replace(b'"version":7', b'"version":6')
    assert load(problem, unsure) is None, "an earlier program did not understand what was asked"
    study.tag("a", trial=0)
    study.pause()
    data = dump(study.session.sync())
    again = load(problem, data)
    assert again is not None
    assert (again.control, again.tags, dump(again)) == ("pause", {0: ("a",)}, data)


def test_a_run_that_lifts_nothing_ends_when_the_study_is_stopped(db: str) -> None:
    with opened(db) as study:
        study.stop()
        summary = study.run(slow, trials=2, progress="none", lift=False)
        assert (summary.why, summary.ended, wish(study)) == ("stopped", 0, "stop")
