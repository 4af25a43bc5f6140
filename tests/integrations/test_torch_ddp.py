"""Trials over two PyTorch processes: one speaks to the study, both start, stop and resume together."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tunewright as tw

pytest.importorskip("torch")

SCRIPT = """
import json, os, sys
import torch, torch.distributed as dist, torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel
import tunewright as tw
from tunewright.integrations.torch_ddp import SharedTrial, run

FOLDER = sys.argv[1]


def asked(trial):
    seen = []
    for step in trial.steps():
        mine = torch.tensor([trial["x"] ** 2 + dist.get_rank() * 2.0])
        dist.all_reduce(mine)
        seen.append(trial.report(step, loss=float(mine) / 2 / step))
    if trial.number == 2:
        raise ValueError("this one fails everywhere")
    log(trial, seen)


def log(trial, seen):
    with open(f"{FOLDER}/rank{dist.get_rank()}", "a") as file:
        file.write(json.dumps([trial.number, trial.params, trial.step, seen]) + "\\n")


def whole(trial):
    torch.manual_seed(trial.seed % 2**31)
    model = DistributedDataParallel(torch.nn.Linear(2, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=trial["x"] / 10)
    trial.keep(model=model, optimizer=optimizer)
    seen = []
    for step in trial.steps():
        x = torch.full((4, 2), 1.0 + dist.get_rank())
        loss = (model(x) - 3).square().mean()
        optimizer.zero_grad(); loss.backward(); optimizer.step()
        seen.append(trial.report(step, loss=float(loss)))
    log(trial, seen + [float(p.sum()) for p in model.parameters()])


def start(rank, world, kind, place):
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=world)
    if kind == "ask":
        study = None
        if rank == 0:
            study = tw.Study.open("ranks", {"x": tw.Float(0.1, 1)}, minimize="loss", steps=(1, 4),
                                  method="halting(random)", storage=f"{FOLDER}/s.db", seed=1)
        run(study, asked, trials=5)
        if study is not None:
            study.close()
    else:
        if rank == 0:
            study = tw.Study.open("ranks", {"x": tw.Float(0.1, 1)}, minimize="loss", steps=(1, 4), method="asha(random)",
                                  storage=f"{FOLDER}/s.db", seed=1)
            def train(trial):
                dist.broadcast_object_list([True], src=0)
                whole(SharedTrial(trial))
            study.run(train, trials=5, progress="none")
            dist.broadcast_object_list([False], src=0)
            study.close()
        else:
            while True:
                box = [None]
                dist.broadcast_object_list(box, src=0)
                if not box[0]:
                    break
                whole(SharedTrial(None))
    dist.destroy_process_group()


if __name__ == "__main__":
    mp.spawn(start, args=(2, sys.argv[2], f"{FOLDER}/meet"), nprocs=2)
"""


def together(tmp_path: Path, kind: str) -> tuple[tw.Study, list[Any]]:
    """The study, and what each of two ranks saw of each segment."""
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path), kind], capture_output=True, text=True, timeout=150
    )
    assert done.returncode == 0, done.stderr
    texts = [(tmp_path / f"rank{r}").read_text() for r in (0, 1)]
    ranks = [[json.loads(line) for line in text.splitlines()] for text in texts]
    assert ranks[0] == ranks[1], "ranks must do the same"
    return tw.Study.open("ranks", storage=tmp_path / "s.db", exist="must"), ranks[0]


@pytest.mark.slow
def test_ranks_ask_and_stop_together(tmp_path: Path) -> None:
    study, seen = together(tmp_path, "ask")
    with study:
        assert len(study.trials) == 5
        failed = study.trials[2]
        assert failed.status == "failed" and "fails everywhere" in failed.error
        assert [s[0] for s in seen] == [0, 1, 3, 4]
        for number, params, step, answers in seen:
            trial = study.trials[number]
            assert params == trial.params
            assert len(answers) == step == len(trial.reports)
            assert answers[-1] is False or step == 4
        stopped = [t for t in study.trials if t.status == "stopped"]
        assert stopped and all(t.step < 4 for t in stopped)


@pytest.mark.slow
def test_ranks_resume_from_the_checkpoint_of_the_first(tmp_path: Path) -> None:
    study, seen = together(tmp_path, "train")
    with study:
        numbers = [s[0] for s in seen]
        again = [n for n in numbers if numbers.count(n) > 1]
        assert again, "one trial must have been paused and resumed"
        first, second = [s for s in seen if s[0] == again[0]][:2]
        assert study.trials[again[0]].step == second[2]
        assert first[2] == 1 and second[2] > 1
        assert len(second[3]) - 2 == second[2] - 1, "the second segment must begin after the first one's step"


def test_without_a_group_it_says_what_to_do() -> None:
    from tunewright.errors import ConfigError
    from tunewright.integrations.torch_ddp import SharedTrial

    with pytest.raises(ConfigError, match="init_process_group"):
        SharedTrial(None)
