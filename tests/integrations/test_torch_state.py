"""A PyTorch training that pauses, moves and forks goes on bit for bit."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

import tunewright as tw
from tunewright.errors import CheckpointError, ConfigError
from tunewright.run.checkpoint import pack_tree, unpack_tree

torch = pytest.importorskip("torch")
from torch.optim.lr_scheduler import (  # noqa: E402
    CosineAnnealingLR,
    LambdaLR,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    SequentialLR,
    StepLR,
)

from tunewright.integrations.torch import ResumableLoader, ResumableSampler, TrainingState  # noqa: E402

DATA = torch.utils.data.TensorDataset(
    torch.arange(70, dtype=torch.float32).reshape(35, 2) / 35, torch.arange(35) % 3
)


class Training:
    """A small training with everything random that a large one has; a step is one batch."""

    def __init__(self, lr: float = 0.05, schedule: Any = None, momentum: float = 0.9, seed: int = 3) -> None:
        torch.manual_seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - trainings do this
        random.seed(seed)
        self.noise = np.random.default_rng(seed)
        self.mask = torch.Generator().manual_seed(seed)
        self.model = torch.nn.Sequential(
            torch.nn.Linear(2, 8), torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.4), torch.nn.Linear(8, 3)
        )
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=lr, momentum=momentum)
        self.scheduler = (schedule or (lambda o: StepLR(o, 3, 0.5)))(self.optimizer)
        self.loader = ResumableLoader(DATA, 8, seed=seed)
        self.batches = self.loader.forever()

    def state(self, **options: Any) -> TrainingState:
        return TrainingState(
            self.model,
            self.optimizer,
            self.scheduler,
            loader=self.loader,
            noise=self.noise,
            mask=self.mask,
            **options,
        )

    def step(self) -> None:
        x, y = next(self.batches)
        x = x + 0.01 * float(self.noise.normal()) + 0.01 * np.random.rand() + 0.01 * random.random()  # noqa: NPY002
        x = x * torch.bernoulli(torch.full_like(x, 0.9), generator=self.mask)
        self.optimizer.zero_grad()
        torch.nn.functional.cross_entropy(self.model(x), y).backward()
        self.optimizer.step()
        self.scheduler.step()

    def weights(self) -> list[Any]:
        return [v.clone() for v in self.model.state_dict().values()]


def same(a: list[Any], b: list[Any]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def uninterrupted(steps: int, **options: Any) -> list[Any]:
    training = Training(**options)
    for _ in range(steps):
        training.step()
    return training.weights()


@pytest.mark.parametrize("pause", range(1, 12))
def test_a_pause_at_any_step_changes_no_bit(pause: int) -> None:
    first = Training()
    state = first.state()
    for _ in range(pause):
        first.step()
    data = pack_tree({"state": state})
    second = Training(seed=3)
    torch.manual_seed(99)
    restored = second.state()
    restored.load_state_dict(unpack_tree(data)["state"])
    for _ in range(12 - pause):
        second.step()
    assert same(second.weights(), uninterrupted(12))
    assert restored.state_dict()["given"] == state.state_dict()["given"]


def test_without_the_generators_it_would_differ() -> None:
    first = Training()
    state = first.state(rng=False)
    for _ in range(4):
        first.step()
    second = Training()
    second.state(rng=False).load_state_dict(unpack_tree(pack_tree(state)))
    for _ in range(8):
        second.step()
    assert not same(second.weights(), uninterrupted(12))


SCHEDULES: dict[str, Any] = {
    "step": lambda o: StepLR(o, 3, 0.5),
    "cosine": lambda o: CosineAnnealingLR(o, 20),
    "lambda": lambda o: LambdaLR(o, lambda e: 1 / (1 + e)),
    "multi": lambda o: MultiStepLR(o, [2, 6], 0.3),
    "onecycle": lambda o: OneCycleLR(o, max_lr=o.param_groups[0]["lr"], total_steps=30),
    "warmup": lambda o: SequentialLR(o, [LinearLR(o, 0.1, total_iters=3), CosineAnnealingLR(o, 20)], [3]),
}


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("pause", [2, 5])
def test_every_schedule_resumes_exactly(name: str, pause: int) -> None:
    first = Training(schedule=SCHEDULES[name])
    state = first.state()
    for _ in range(pause):
        first.step()
    data = pack_tree(state)
    second = Training(schedule=SCHEDULES[name])
    second.state().load_state_dict(unpack_tree(data))
    for _ in range(10 - pause):
        second.step()
    assert same(second.weights(), uninterrupted(10, schedule=SCHEDULES[name]))


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_fork_follows_the_same_schedule_from_its_own_rate(name: str) -> None:
    donor = Training(lr=0.1, schedule=SCHEDULES[name])
    state = donor.state()
    for _ in range(4):
        donor.step()
    fork = Training(lr=0.02, schedule=SCHEDULES[name])
    fork.state().load_state_dict(unpack_tree(pack_tree(state)))
    plain = Training(lr=0.02, schedule=SCHEDULES[name])
    for _ in range(4):
        plain.step()
    for _ in range(6):
        assert fork.optimizer.param_groups[0]["lr"] == pytest.approx(plain.optimizer.param_groups[0]["lr"])
        fork.step()
        plain.step()


def test_a_fork_has_its_own_hyperparameters_and_its_donors_moments() -> None:
    constant = {"schedule": lambda o: LambdaLR(o, lambda e: 1.0)}
    donor = Training(lr=0.1, momentum=0.9, **constant)
    state = donor.state()
    for _ in range(4):
        donor.step()
    data = pack_tree(state)
    fork = Training(lr=0.03, momentum=0.5, **constant)
    fork.state().load_state_dict(unpack_tree(data))
    group = fork.optimizer.param_groups[0]
    assert (group["lr"], group["momentum"], group["initial_lr"]) == (0.03, 0.5, 0.03)
    assert fork.scheduler.base_lrs == [0.03]
    assert same(fork.weights(), donor.weights())
    buffers = [s["momentum_buffer"] for s in fork.optimizer.state.values()]
    assert same(buffers, [s["momentum_buffer"] for s in donor.optimizer.state.values()])
    saved = Training(lr=0.03, momentum=0.5, **constant)
    saved.state(hyperparameters="saved").load_state_dict(unpack_tree(data))
    assert saved.optimizer.param_groups[0]["lr"] == 0.1
    assert saved.optimizer.param_groups[0]["momentum"] == 0.9


def test_a_fork_of_a_fork_counts_from_its_own_donor() -> None:
    first = Training(lr=0.1)
    one = first.state()
    for _ in range(4):
        first.step()
    second = Training(lr=0.05)
    two = second.state()
    two.load_state_dict(unpack_tree(pack_tree(one)))
    assert second.optimizer.param_groups[0]["lr"] == pytest.approx(0.025), "halved once by now"
    third = Training(lr=0.05)
    third.state().load_state_dict(unpack_tree(pack_tree(two)))
    assert third.optimizer.param_groups[0]["lr"] == second.optimizer.param_groups[0]["lr"]


def test_a_rate_changed_by_hand_is_what_goes_on() -> None:
    first = Training(lr=0.1, schedule=lambda o: LambdaLR(o, lambda e: 1.0))
    state = first.state()
    first.optimizer.param_groups[0]["weight_decay"] = 0.25
    second = Training(lr=0.1, schedule=lambda o: LambdaLR(o, lambda e: 1.0))
    second.state().load_state_dict(unpack_tree(pack_tree(state)))
    assert second.optimizer.param_groups[0]["weight_decay"] == 0.25


def test_adam_and_a_scaler_and_objects_of_ones_own_come_along() -> None:
    class Count:
        def __init__(self) -> None:
            self.n = 0

        def state_dict(self) -> dict[str, int]:
            return {"n": self.n}

        def load_state_dict(self, state: dict[str, int]) -> None:
            self.n = state["n"]

    def made() -> tuple[Any, Any, Any, Count]:
        model = torch.nn.Linear(2, 1)
        return (
            model,
            torch.optim.Adam(model.parameters()),
            torch.amp.GradScaler("cpu", init_scale=8.0),
            Count(),
        )

    model, optimizer, scaler, count = made()
    state = TrainingState(model, optimizer, scaler=scaler, count=count)
    scaler.scale(model(torch.ones(3, 2)).sum()).backward()
    scaler.step(optimizer)
    scaler.update(4.0)
    count.n = 7
    other = made()
    TrainingState(other[0], other[1], scaler=other[2], count=other[3]).load_state_dict(
        unpack_tree(pack_tree(state))
    )
    assert torch.equal(other[0].weight, model.weight)
    assert other[2].get_scale() == 4.0
    assert other[3].n == 7


def test_what_is_missing_or_no_part_is_said() -> None:
    with pytest.raises(ConfigError, match="'model' is a int"):
        TrainingState(3)
    model = torch.nn.Linear(2, 1)
    data = unpack_tree(pack_tree(TrainingState(model)))
    with pytest.raises(CheckpointError, match=r"must hold 'optimizer'; it has \['model'\]"):
        TrainingState(model, torch.optim.SGD(model.parameters(), 0.1)).load_state_dict(data)


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("cut", range(10))
def test_a_loader_goes_on_in_the_middle_of_an_epoch(cut: int, drop_last: bool) -> None:
    def made() -> ResumableLoader:
        return ResumableLoader(DATA, 8, seed=1, drop_last=drop_last)

    def rows(batches: Any, n: int) -> list[list[float]]:
        return [next(batches)[0][:, 0].tolist() for _ in range(n)]

    whole = rows(made().forever(), 12)
    first = made()
    head = rows(first.forever(), cut)
    second = made()
    second.load_state_dict(first.state_dict())
    assert head + rows(second.forever(), 12 - cut) == whole


def test_a_loader_visits_everything_once_an_epoch_and_orders_epochs_anew() -> None:
    loader = ResumableLoader(DATA, 8, seed=1)
    epochs = [torch.cat([x[:, 0] for x, _ in loader]).tolist() for _ in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == DATA.tensors[0][:, 0].tolist()
    assert epochs[0] != epochs[1]
    assert (loader.epoch, loader.batch, len(loader)) == (2, 0, 5)
    before = torch.get_rng_state()
    for _ in loader:
        break
    assert torch.equal(torch.get_rng_state(), before), "the global generator is left alone"
    assert loader.batch == 1


def test_a_sampler_serves_a_loader_of_ones_own() -> None:
    def made() -> tuple[ResumableSampler, Any]:
        sampler = ResumableSampler(DATA, seed=5)
        return sampler, torch.utils.data.DataLoader(DATA, 8, sampler=sampler)

    sampler, loader = made()
    whole = [x[:, 0].tolist() for _ in range(2) for x, _ in loader]
    sampler, loader = made()
    batches = iter(loader)
    head = [next(batches)[0][:, 0].tolist() for _ in range(3)]
    second, again = made()
    second.load_state_dict(sampler.state_dict())
    assert head + [x[:, 0].tolist() for _ in range(2) for x, _ in again] == whole
    with pytest.raises(CheckpointError, match="35 items, got 4"):
        ResumableSampler(4).load_state_dict(sampler.state_dict())
    with pytest.raises(ConfigError, match="got 0 items"):
        ResumableSampler(0)


@pytest.mark.slow
def test_a_loader_with_worker_processes_counts_what_the_training_has_got() -> None:
    loader = ResumableLoader(DATA, 4, seed=1, num_workers=2)
    batches = iter(loader)
    head = [next(batches)[0][:, 0].tolist() for _ in range(3)]
    state = loader.state_dict()
    del batches
    second = ResumableLoader(DATA, 4, seed=1)
    second.load_state_dict(state)
    whole = [x[:, 0].tolist() for x, _ in ResumableLoader(DATA, 4, seed=1)]
    assert head + [x[:, 0].tolist() for x, _ in second] == whole


def test_a_trial_that_is_promoted_trains_what_it_would_have_trained_at_once() -> None:
    final: dict[int, list[Any]] = {}

    def train(trial: tw.Attempt) -> None:
        training = Training(lr=trial["lr"])
        trial.keep(state=training.state())
        for step in trial.steps():
            training.step()
            trial.report(step, loss=trial["lr"])
        final[trial.number] = training.weights()

    study = tw.Study.open("s", {"lr": tw.Float(0.01, 0.1)}, steps=9, method="asha", storage="memory")
    study.run(train, trials=6, progress="none")
    promoted = [t for t in study.trials if len({r.token for r in t.reports}) > 1]
    assert promoted
    for trial in promoted:
        assert same(final[trial.number], uninterrupted(trial.step, lr=trial.params["lr"]))
