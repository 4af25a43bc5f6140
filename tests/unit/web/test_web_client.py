"""Our own client on a real server: the same study as in a file, decided elsewhere."""

from __future__ import annotations

from typing import Any

import pytest
from live_server import Live, live

import tunewright as tw
from tunewright.errors import ConfigError, LeaseLost, StudyExists, StudyMissing
from tunewright.store.copying import copy_study
from tunewright.store.http import HttpStore
from tunewright.store.memory import MemoryStore

SPACE = {"x": tw.Float(-1.0, 1.0), "n": tw.Int(1, 8)}


@pytest.fixture(scope="module")
def server() -> Any:
    with live() as found:
        yield found


def bowl(x: float, n: int) -> float:
    return x * x + n


@pytest.mark.parametrize(
    "method", ["random", "hyperband(random)", pytest.param("tpe", marks=pytest.mark.slow)]
)
def test_decisions_are_those_of_a_local_study(server: Live, method: str) -> None:
    def tuned(storage: Any) -> list[Any]:
        steps = 9 if method.startswith("hyper") else None
        study = tw.Study.open(f"same-{method}", SPACE, method=method, seed=3, steps=steps, storage=storage)
        for _ in range(12):
            asked = study.ask()
            assert asked is not None
            asked.tell(bowl(**asked.params))
        found = [(t.number, t.params, t.until, t.status) for t in study.trials]
        study.close()
        return found

    assert tuned(server.address) == tuned(MemoryStore())


def test_a_run_with_steps_and_checkpoints(server: Live) -> None:
    def train(trial: Any) -> None:
        state = trial.checkpoint.load({"w": 0.0})
        for step in trial.steps():
            state = {"w": state["w"] + trial["x"]}
            trial.checkpoint.save(state)
            trial.report(step, loss=abs(state["w"]))

    study = tw.Study.open("steps", SPACE, steps=4, method="hyperband(random)", storage=server.address)
    study.run(train, trials=6, progress="none")
    assert study.best.metrics["loss"] >= 0.0
    assert sum(study.counts.values()) >= 6
    kept = study.checkpoint(study.best)
    assert kept["w"] == pytest.approx(study.best.params["x"] * study.best.step)
    study.close()


def test_parameters_declared_on_the_way(server: Live) -> None:
    def train(trial: Any) -> float:
        layers = trial.suggest_int("layers", 1, 2)
        return sum(trial.suggest_float(f"w{i}", 0.0, 1.0) for i in range(layers))

    study = tw.Study.open("by-run", storage=server.address, method="random")
    study.run(train, trials=4, progress="none")
    assert study.counts == {"completed": 4}
    assert {"layers", "w0"} <= set(study.space.names)
    assert all(len(t.params) == 1 + t.params["layers"] for t in study.trials)
    study.close()


def test_many_at_once_queue_and_edits(server: Live) -> None:
    study = tw.Study.open("many", SPACE, method="random", storage=server.address)
    assert study.enqueue({"x": 0.5}, key="k") == study.enqueue({"x": 0.5}, key="k")
    many = study.ask_many(10)
    assert [a.number for a in many] == list(range(10))
    assert many[0].params["x"] == 0.5
    study.tell_many([(a, bowl(**a.params)) for a in many])
    study.edit({"x": tw.Float(-2.0, 2.0), "n": tw.Int(1, 8)})
    study.note("a word")
    assert study.space.domains["x"].low == -2.0
    assert study.counts == {"completed": 10}
    assert study.replay().decisions >= 9
    study.close()


def test_refusals_are_the_errors_of_a_local_store(server: Live) -> None:
    address = server.address
    study = tw.Study.open("refused", SPACE, method="random", storage=address)
    with pytest.raises(StudyExists):
        tw.Study.open("refused", SPACE, storage=address, exist="error")
    with pytest.raises(StudyMissing):
        tw.Study.open("absent", storage=address, exist="must")
    asked = study.ask()
    assert asked is not None
    with pytest.raises(ConfigError):
        asked.tell("much")  # type: ignore[arg-type]
    asked.token += 1
    with pytest.raises(LeaseLost):
        asked.tell(1.0)
    study.close()


def test_a_copy_to_a_server_and_back(server: Live) -> None:
    here, there, back = MemoryStore(), HttpStore(server.address), MemoryStore()
    study = tw.Study.open("copied", SPACE, method="random", storage=here)
    for asked in study.ask_many(20):
        asked.tell(bowl(**asked.params))
    copy_study(here, "copied", there)
    copy_study(there, "copied", back)
    first, last = here.find("copied"), back.find("copied")
    assert first is not None and last is not None
    assert here.read(first.id) == back.read(last.id)
    assert tw.Study.open("copied", storage=there).counts == {"completed": 20}
    there.close()
