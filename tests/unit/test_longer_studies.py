"""Opening a study with more steps: what was trained goes on, and the log still replays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tunewright as tw
from tunewright.bench.simulate import Task, simulate
from tunewright.catalog import build
from tunewright.core.events import Extended
from tunewright.core.problem import Fidelity, Problem
from tunewright.errors import ConfigError

SPACE = tw.Space(x=tw.Float(0, 1))


class Steps:
    """Counts what was trained, so that training the wrong thing or the same thing twice shows."""

    def __init__(self) -> None:
        self.done: list[int] = []

    def state_dict(self) -> dict[str, Any]:
        return {"done": self.done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.done = list(state["done"])


class Train:
    """A training function that remembers how many steps it took in all."""

    def __init__(self) -> None:
        self.total = 0

    def __call__(self, trial: tw.Attempt) -> None:
        steps = Steps()
        trial.keep(steps=steps)
        for step in trial.steps():
            steps.done.append(step)
            assert steps.done == list(range(1, step + 1)), "it went on from the right weights"
            self.total += 1
            trial.report(step, loss=trial["x"] + 1 / step)


def opened(path: Path, steps: Any = None, **more: Any) -> tw.Study:
    return tw.Study.open("s", SPACE, steps=steps, storage=str(path / "s.db"), **more)


@pytest.mark.parametrize("method", ["asha", "hyperband", "hypertune", "mobster", "asha(tpe)", "random"])
def test_more_steps_continue_what_is_there(method: str, tmp_path: Path) -> None:
    train = Train()
    with opened(tmp_path, 9, method=method, resumable=True) as study:
        study.run(train, trials=9, progress="none")
        before = {t.number for t in study.trials if t.status == "completed"}
        assert before
    first = train.total
    with opened(tmp_path, 27) as study:
        assert study.problem.fidelity == Fidelity(27)
        study.run(train, trials=12 if method == "random" else 9, progress="none")
        assert max(t.step for t in study.trials) == 27
        forks = [t for t in study.trials if t.parent is not None]
        if method != "random":
            assert forks
            assert all(t.parent == (t.why["continues"], 9) and t.parent[0] in before for t in forks)
        assert study.session.ledger.begun == 9 + 3 * (method == "random")
        trained = sum(t.step - (t.parent[1] if t.parent else 0) for t in study.trials)
        assert train.total == trained, "nothing was trained twice"
        assert train.total > first
        found = study.replay()
        assert found.verified + found.skipped == found.decisions
        assert found.skipped <= 1, "at most the rest of the best one"


@pytest.mark.parametrize("method", ["asha", "hypertune", "mobster", "guarded", "topk"])
def test_completed_trials_are_promoted_beyond_their_former_end(method: str) -> None:
    problem = Problem(SPACE, fidelity=Fidelity(9))
    task = Task("lines", problem, lambda c: (c["x"] + 1 / np.arange(1.0, 28.0), np.ones(27)), 0.0, 1.0)
    trace = simulate(build(method), task, steps=500, longer=[(200, 27)])
    forks = [t for t in trace.ledger.trials if t.parent is not None]
    assert len(forks) > 1
    assert all(t.parent == (t.why["continues"], 9) for t in forks)


def test_the_same_steps_or_none_change_nothing(tmp_path: Path) -> None:
    opened(tmp_path, 9, method="asha").close()
    for steps in (None, 9, (1, 9)):
        with opened(tmp_path, steps) as study:
            assert study.session.ledger.cursor == 0
    with opened(tmp_path, (1, 27)) as study:
        events = [r.event for r in study.session.store.read(study.session.info.id)]
        assert events == [Extended(27, 9)]
        assert study.session.origin.fidelity == Fidelity(9)
    with opened(tmp_path, 27) as study:
        assert study.session.ledger.cursor == 1, "asked for again, it is there already"


def test_fewer_steps_and_another_least_are_refused(tmp_path: Path) -> None:
    opened(tmp_path, 9, method="asha").close()
    for steps in (3, (3, 27), Fidelity(27, unit="epoch")):
        with pytest.raises(ConfigError, match="keeps its steps, or gets more of them"):
            opened(tmp_path, steps)
    with pytest.raises(ConfigError, match="keeps its steps"):
        opened(tmp_path, 27, on_change="error")
    with (
        opened(tmp_path) as study,
        pytest.raises(ConfigError, match="only be made longer.* had 9 steps; got 8"),
    ):
        study.session.extend(8)
    plain = tw.Study.open("plain", SPACE, storage=str(tmp_path / "s.db"), method="random")
    with pytest.raises(ConfigError, match="keeps its steps"):
        tw.Study.open("plain", steps=9, storage=str(tmp_path / "s.db"))
    with pytest.raises(ConfigError, match="has no steps"):
        plain.session.extend(9)


def test_a_study_that_never_saved_trains_again_from_the_first_step(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def forgetful(trial: tw.Attempt) -> None:
        for step in trial.steps():
            seen.append((trial.number, step))
            trial.report(step, loss=trial["x"] + 1 / step)

    with opened(tmp_path, 3, method="asha") as study:
        study.run(forgetful, trials=3, progress="none")
    with opened(tmp_path, 9) as study:
        study.run(forgetful, trials=3, progress="none")
        (fork,) = [t for t in study.trials if t.parent is not None]
        assert [s for n, s in seen if n == fork.number] == list(range(1, 10))
        assert fork.status == "completed"
        assert study.best.number == fork.number


def test_without_a_scheduler_the_best_gets_the_rest(tmp_path: Path) -> None:
    with opened(tmp_path, 9, method="random") as study:
        study.run(Train(), trials=3, progress="none")
        best = study.best.number
    train = Train()
    with opened(tmp_path, 27) as study:
        study.run(train, trials=3, progress="none")
        assert [t.parent for t in study.trials[3:]] == [(best, 9)]
        assert train.total == 18
        study.run(train, trials=3, progress="none")
        assert len(study.trials) == 4, "once"
        assert study.replay().skipped == 1


def test_another_process_hears_of_it(tmp_path: Path) -> None:
    first = opened(tmp_path, 9, method="asha")
    first.run(Train(), trials=6, progress="none")
    with opened(tmp_path, 27):
        pass
    train = Train()
    first.run(train, trials=6, progress="none")
    assert max(t.step for t in first.trials) == 27
    assert train.total < 27, "it went on from nine"
    assert first.replay().verified >= 6


def test_an_extended_study_opens_from_its_snapshot(tmp_path: Path) -> None:
    with opened(tmp_path, 9, method="asha") as study:
        study.run(Train(), trials=6, progress="none")
    with opened(tmp_path, 27) as study:
        study.run(Train(), trials=8, progress="none")
        study.session.keep()
        trials = [(t.number, t.status, t.step) for t in study.trials]
    with opened(tmp_path) as study:
        assert study.problem.fidelity == Fidelity(27)
        assert [(t.number, t.status, t.step) for t in study.trials] == trials
        study.run(Train(), trials=9, progress="none")
        assert study.replay().verified > 9
