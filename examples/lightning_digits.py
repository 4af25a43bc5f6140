"""Tunes a Lightning module: each epoch is reported, weak trials are paused, promoted ones resume from their checkpoint.

Run it: python examples/lightning_digits.py
"""

import logging
import warnings
from typing import Any

import lightning
import torch
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Subset, TensorDataset

import tunewright as tw
from tunewright.integrations.lightning import ReportCallback

X, Y = load_digits(return_X_y=True)
ROWS = TensorDataset(torch.tensor(X / 16, dtype=torch.float32), torch.tensor(Y))


class Classifier(lightning.LightningModule):
    """One hidden layer."""

    def __init__(self, lr: float, width: int) -> None:
        super().__init__()
        self.lr = lr
        self.net = torch.nn.Sequential(
            torch.nn.Linear(64, width), torch.nn.ReLU(), torch.nn.Linear(width, 10)
        )

    def training_step(self, batch: Any, index: int) -> Any:
        """Loss of a batch."""
        return cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch: Any, index: int) -> None:
        """Logs what is tuned for."""
        self.log("val_acc", (self.net(batch[0]).argmax(1) == batch[1]).float().mean())

    def configure_optimizers(self) -> Any:
        """Adam."""
        return torch.optim.Adam(self.parameters(), self.lr)


def train(trial: tw.Attempt) -> None:
    """One segment: from where the trial was to where it is to go."""
    lightning.seed_everything(trial.seed % 2**32, verbose=False)
    report = ReportCallback(trial, "val_acc")
    trainer = lightning.Trainer(
        max_epochs=trial.until or 9,
        callbacks=[report],
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    fit, valid = DataLoader(Subset(ROWS, range(900)), 64), DataLoader(Subset(ROWS, range(900, 1300)), 400)
    trainer.fit(Classifier(trial["lr"], trial["width"]), fit, valid, ckpt_path=report.resume_from)


def main() -> None:
    """Opens a study, runs it, shows the best."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
    torch.set_num_threads(1)
    space = {"lr": tw.Float(1e-4, 0.1, log=True), "width": tw.Int(8, 128, log=True)}
    study = tw.Study.open("lightning", space, maximize="accuracy", steps=9, storage="memory", seed=0)
    study.run(train, trials=8)
    print(f"{study.counts.get('paused', 0)} of {len(study.trials)} trials were paused")
    print(f"best accuracy {study.best.metrics['accuracy']:.4f} with {study.best.params}")


if __name__ == "__main__":
    main()
