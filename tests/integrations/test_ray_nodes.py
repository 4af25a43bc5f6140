"""Several nodes of Ray on this machine, one of which is lost while it trains, as a spot instance is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import tunewright as tw
from tunewright.core.events import Interrupted
from tunewright.run.ray import Ray

ray: Any = pytest.importorskip("ray")
pytestmark = pytest.mark.slow

MODULE = """
import os, pathlib, time

HERE = pathlib.Path(__file__).parent

def counts(trial):
    done = trial.checkpoint.load({"step": 0})["step"]
    for step in trial.steps():
        assert step == done + 1
        done = step
        with open(HERE / "steps.txt", "a") as file:
            file.write(f"{step}\\n")
        time.sleep(0.05)
        trial.checkpoint.save(step=step)
        trial.report(step, loss=trial["x"] / step)
"""


@pytest.fixture
def nodes() -> Iterator[Any]:
    """A head that trains nothing, and a way to add and remove nodes."""
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 80 << 20}
    cluster: Any = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **small}
    )
    try:
        ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        yield lambda: cluster.add_node(num_cpus=1, **small), cluster.remove_node
    finally:
        ray.shutdown()
        cluster.shutdown()


def test_the_trial_of_a_lost_node_goes_on_at_the_next(
    nodes: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ray_node_work.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    import ray_node_work  # type: ignore[import-not-found]

    add, remove = nodes
    first = add()
    lost: list[int] = []

    def watch(event: object, session: object) -> None:
        path = tmp_path / "steps.txt"
        if not lost and path.exists() and len(path.read_text().split()) > 4:
            lost.append(1)
            remove(first, allow_graceful=False)
            add()

    study = tw.Study.open(
        "s", {"x": tw.Float(0, 1)}, steps=30, method="random", storage=str(tmp_path / "s.db")
    )
    study.run(ray_node_work.counts, workers=1, trials=1, progress="none", on=Ray(cpus=1), watch=watch)
    assert study.counts == {"completed": 1}
    cut = [r.event for r in study.session.store.read(1) if isinstance(r.event, Interrupted)]
    assert [e.cause for e in cut] == ["lost"]
    taken = (tmp_path / "steps.txt").read_text().split()
    assert len(taken) - len(set(taken)) <= 1, "it went on from its last checkpoint"
