"""Callbacks of Lightning, Keras and transformers report, stop, and go on exactly from a checkpoint."""

from __future__ import annotations

import logging
import os
import warnings
from typing import Any

import numpy as np
import pytest

import tunewright as tw

os.environ.setdefault("KERAS_BACKEND", "torch")  # read once, when keras is imported
pytest.importorskip("torch")
import torch

RNG = np.random.default_rng(0)
X = RNG.normal(size=(96, 6)).astype("float32")
Y = (X[:, 0] + X[:, 1] * X[:, 2] > 0).astype("int64")
SPACE = {"lr": tw.Float(1e-3, 0.1, log=True)}
STEPS = 9
quiet = pytest.mark.filterwarnings("ignore")


def study(name: str) -> tw.Study:
    return tw.Study.open(
        name, SPACE, minimize="loss", steps=STEPS, method="asha(random)", storage="memory", seed=2
    )


def check(found: tw.Study, segments: list[tuple[int, int]], whole: Any) -> None:
    """Trials were paused and resumed, and the best has the loss of a training without a pause."""
    assert {t.status for t in found.trials} <= {"paused", "completed"}, [t.error for t in found.trials]
    assert any(step > 0 for _, step in segments), "one trial must have been resumed"
    resumed = next(n for n, step in segments if step > 0)
    trial = found.trials[resumed]
    assert [r.step for r in trial.reports] == list(range(1, trial.step + 1))
    reported = [r.metrics["loss"] for r in trial.reports if r.metrics]
    assert reported == pytest.approx(whole(trial.params, trial.step), rel=1e-4)


def net(outputs: int = 2) -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Linear(6, outputs)


# ------------------------------------------------------------------ Lightning


def lightning_fit(params: dict[str, Any], epochs: int, callback: Any, path: str | None) -> None:
    import lightning

    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    loss = torch.nn.functional.cross_entropy
    rows = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))
    train, valid = torch.utils.data.Subset(rows, range(64)), torch.utils.data.Subset(rows, range(64, 96))

    class Module(lightning.LightningModule):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.net = net()

        def training_step(self, batch: Any, index: int) -> Any:
            return loss(self.net(batch[0]), batch[1])

        def validation_step(self, batch: Any, index: int) -> None:
            self.log("val_loss", loss(self.net(batch[0]), batch[1]))

        def configure_optimizers(self) -> Any:
            return torch.optim.Adam(self.parameters(), params["lr"])

    trainer = lightning.Trainer(
        max_epochs=epochs, callbacks=[callback], logger=False, enable_checkpointing=False, accelerator="cpu",
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    loaders = [torch.utils.data.DataLoader(d, 32) for d in (train, valid)]
    trainer.fit(Module(), *loaders, ckpt_path=path)


class Seen:
    """A trial that goes on to the end, or is told to stop."""

    objectives = ("loss",)
    step = 0

    def __init__(self, most: int = 99) -> None:
        self.most, self.losses = most, list[float]()

    def report(self, step: int, /, **metrics: Any) -> bool:
        assert step == len(self.losses) + 1
        self.losses.append(metrics["loss"])
        return step < self.most


@quiet
@pytest.mark.slow
def test_lightning_goes_on_where_it_was() -> None:
    pytest.importorskip("lightning")
    from tunewright.integrations.lightning import ReportCallback

    segments: list[tuple[int, int]] = []

    def train(trial: Any) -> None:
        segments.append((trial.number, trial.step))
        report = ReportCallback(trial, "val_loss")
        lightning_fit(trial.params, trial.until, report, report.resume_from)

    def whole(params: dict[str, Any], steps: int) -> list[float]:
        seen = Seen()
        lightning_fit(params, steps, ReportCallback(seen, "val_loss"), None)
        return seen.losses

    found = study("lightning")
    found.run(train, trials=6, progress="none")
    check(found, segments, whole)


@quiet
@pytest.mark.slow
def test_lightning_stops_and_names_what_was_logged() -> None:
    pytest.importorskip("lightning")
    from tunewright.errors import ConfigError
    from tunewright.integrations.lightning import ReportCallback

    seen = Seen(2)
    report = ReportCallback(seen, "val_loss")
    lightning_fit({"lr": 0.01}, 9, report, None)
    assert len(seen.losses) == 2 and report.stopped and report.resume_from is None
    with pytest.raises(ConfigError, match="there are 'val_loss'"):
        lightning_fit({"lr": 0.01}, 1, ReportCallback(Seen(), "val_los"), None)


# ------------------------------------------------------------------ Keras


def keras_fit(params: dict[str, Any], start: int, epochs: int, callback: Any, ready: Any) -> None:
    import keras

    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((6,)), keras.layers.Dense(4, activation="relu"), keras.layers.Dense(2)]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(params["lr"]), loss=loss)
    ready(model)
    model.fit(
        X[:64], Y[:64], validation_data=(X[64:], Y[64:]), initial_epoch=start, epochs=epochs, batch_size=64,
        shuffle=False, verbose=0, callbacks=[callback],
    )  # fmt: skip


@quiet
@pytest.mark.slow
def test_keras_goes_on_where_it_was() -> None:
    pytest.importorskip("keras")
    from tunewright.integrations.keras import ModelState, ReportCallback

    segments: list[tuple[int, int]] = []

    def train(trial: Any) -> None:
        segments.append((trial.number, trial.step))
        keep = lambda model: trial.keep(state=ModelState(model))  # noqa: E731
        keras_fit(trial.params, trial.step, trial.until, ReportCallback(trial, "val_loss"), keep)

    def whole(params: dict[str, Any], steps: int) -> list[float]:
        seen = Seen()
        keras_fit(params, 0, steps, ReportCallback(seen, "val_loss"), lambda model: None)
        return seen.losses

    found = study("keras")
    found.run(train, trials=6, progress="none")
    check(found, segments, whole)


@quiet
@pytest.mark.slow
def test_keras_stops_and_refuses_another_model() -> None:
    pytest.importorskip("keras")
    from tunewright.errors import CheckpointError, ConfigError
    from tunewright.integrations.keras import ModelState, ReportCallback

    seen, models = Seen(2), list[Any]()
    keras_fit({"lr": 0.01}, 0, 9, ReportCallback(seen, "val_loss"), models.append)
    assert len(seen.losses) == 2
    state = ModelState(models[0]).state_dict()
    state["weights"] = state["weights"][:-1]
    with pytest.raises(CheckpointError, match="Build the model that was saved"):
        ModelState(models[0]).load_state_dict(state)
    with pytest.raises(ConfigError, match="there are 'loss', 'val_loss'"):
        keras_fit({"lr": 0.01}, 0, 1, ReportCallback(Seen(), "acc"), lambda model: None)


# ------------------------------------------------------------------ transformers

ROWS: list[dict[str, Any]] = []


def trainer(params: dict[str, Any]) -> Any:
    """A trainer of a tiny model with random weights; nothing is downloaded."""
    from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments

    if not ROWS:
        ids = RNG.integers(0, 20, size=(64, 8))
        ROWS.extend({"input_ids": torch.tensor(i), "labels": int(i[0] > 10)} for i in ids)
    torch.manual_seed(0)
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    model = BertForSequenceClassification(
        BertConfig(vocab_size=20, max_position_embeddings=8, hidden_dropout_prob=0.0, **sizes)
    )
    arguments = TrainingArguments(
        num_train_epochs=4, per_device_train_batch_size=16, eval_strategy=params.get("eval", "epoch"),
        learning_rate=params["lr"], report_to=[], disable_tqdm=True, use_cpu=True, save_strategy="no",
        logging_strategy="no", dataloader_pin_memory=False,
    )  # fmt: skip
    return Trainer(model=model, args=arguments, train_dataset=ROWS[:48], eval_dataset=ROWS[48:])


@quiet
@pytest.mark.slow
def test_a_search_of_a_trainer_stops_and_resumes() -> None:
    pytest.importorskip("transformers")
    from tunewright.integrations.huggingface import search

    found = search(
        trainer,
        SPACE,
        trials=5,
        steps=4,
        method="asha(random)",
        progress="none",
        seed=2,
        minimize="eval_loss",
    )
    assert {t.status for t in found.trials} <= {"paused", "completed"}, [t.error for t in found.trials]
    whole = next(t for t in found.trials if t.step == 4)
    assert [r.step for r in whole.reports] == [1, 2, 3, 4]
    same = trainer(whole.params)
    same.train()
    assert whole.metrics["eval_loss"] == pytest.approx(same.evaluate()["eval_loss"], rel=1e-3)
    assert found.counts["paused"] >= 3


@quiet
@pytest.mark.slow
def test_a_trainer_that_evaluates_only_at_the_end(tmp_path: Any) -> None:
    pytest.importorskip("transformers")
    from tunewright.errors import ConfigError
    from tunewright.integrations.huggingface import search

    space = {**SPACE, "eval": tw.Choice(["no"])}
    where = {"name": "end", "storage": str(tmp_path / "s.db"), "seed": 1, "progress": "none"}
    with search(trainer, space, trials=1, **where) as found:
        assert found.best.metrics["eval_loss"] > 0 and found.best.step == 0
    with search(trainer, space, trials=2, **{**where, "seed": None}) as again:
        assert len(again.trials) == 2
    with pytest.raises(ConfigError, match="needs an end"):
        search(trainer, SPACE)
    with pytest.raises(ConfigError, match="one objective"):
        search(trainer, SPACE, trials=1, minimize="a", maximize="b")


@quiet
@pytest.mark.slow
def test_a_misspelled_metric_of_a_trainer_is_named() -> None:
    pytest.importorskip("transformers")
    from tunewright.integrations.huggingface import search

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(Exception, match="'eval_acc', and there are 'eval_loss'"):
            search(trainer, SPACE, trials=1, maximize="eval_acc", progress="none")
