import json
from pathlib import Path

import numpy as np
import pytest

from tunewright.bench import real
from tunewright.bench.tables import folder
from tunewright.core.domains import Choice, Float, Int, Order
from tunewright.errors import ConfigError

needs_data = pytest.mark.skipif(
    not (folder("data") / "tasks.csv").exists(), reason="needs the recorded tables"
)
SOME = ("svm:ecoli", "chemistry:agnp", "language:moe_1in89_D4B")


def test_the_sample_is_forty_tasks_of_ten_kinds() -> None:
    assert len(set(real.REAL)) == 40
    assert len({name.partition(":")[0] for name in real.REAL}) == 10


def test_domains_are_read_off_values() -> None:
    assert real.domain_of([1, 2, 3, None]) == Int(1, 3)
    assert real.domain_of([1, 2, 4]) == Order([1, 2, 4])
    assert real.domain_of(["b", "a"]) == Choice(["a", "b"])
    assert real.domain_of([float(v) / 7 for v in range(1, 30)]) == Float(1 / 7, 29 / 7)
    assert real.domain_of([10.0**-k * 1.5 for k in range(20)]) == Float(1.5e-19, 1.5, log=True)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigError, match="must be one of"):
        real.real_task("rbv2:nothing")


@needs_data
@pytest.mark.parametrize("name", SOME)
def test_recorded_rows_are_answered_exactly_and_others_by_a_recorded_result(name: str) -> None:
    task = real.real_task(name)
    table = real._read(name)
    recorded = set(table.losses.tolist())
    space = task.problem.space
    for row in space.sample(np.random.default_rng(0), 20):
        config = space.decode(row)
        loss = task.curve(config)[0][0]
        assert loss in recorded
        assert task.curve(config)[0][0] == loss
        assert 0.0 <= float(task.regret(loss)) <= 1.0
    if all(None not in v for v in table.parameters.values()):
        domains = {n: real.domain_of(v) for n, v in table.parameters.items()}
        for i in (0, len(table.losses) // 2):
            config = {n: real._plain(domains[n], v[i]) for n, v in table.parameters.items()}
            same = [
                table.losses[j]
                for j in range(len(table.losses))
                if all(v[j] == v[i] for v in table.parameters.values())
            ]
            assert task.curve(config)[0][0] in same


@needs_data
def test_a_packed_task_is_the_same_task(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = real.real_task("svm:ecoli")
    real.pack("svm:ecoli", tmp_path)
    monkeypatch.setenv("TUNEWRIGHT_DATA", str(tmp_path))
    real.real_task.cache_clear()
    after = real.real_task("svm:ecoli")
    real.real_task.cache_clear()
    assert (after.best, after.usual) == (before.best, before.usual)
    assert json.dumps(after.problem.space.names) == json.dumps(before.problem.space.names)
    for row in before.problem.space.sample(np.random.default_rng(1), 20):
        config = before.problem.space.decode(row)
        assert after.curve(config)[0][0] == before.curve(config)[0][0]
