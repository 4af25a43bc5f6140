"""Trains a PyTorch network by epochs; weak trials pause after a few epochs and only the best go on.

``trial.keep`` puts model and optimizer into the checkpoint when a trial pauses and takes them out when it resumes.
Interrupt it with Ctrl-C and run it again: it goes on where it was.

Run it: python examples/pytorch_digits.py [STUDIES.db]
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy

import tunewright as tw

EPOCHS = 9


def data() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Training and validation images and labels."""
    x, y = load_digits(return_X_y=True)
    images, labels = torch.tensor(x / 16.0, dtype=torch.float32), torch.tensor(y)
    return images[:1200], labels[:1200], images[1200:], labels[1200:]


def train(trial: tw.Attempt) -> None:
    """One trial, from wherever it paused to wherever it is to pause next."""
    torch.set_num_threads(1)
    torch.manual_seed(trial.seed)
    x, y, x_valid, y_valid = data()
    width = trial.params["width"]
    model = torch.nn.Sequential(torch.nn.Linear(64, width), torch.nn.ReLU(), torch.nn.Linear(width, 10))
    optimizer = torch.optim.AdamW(model.parameters(), trial.params["lr"], weight_decay=trial.params["decay"])
    trial.keep(model=model, optimizer=optimizer)
    for epoch in trial.steps():
        for rows in torch.randperm(len(y)).split(64):
            optimizer.zero_grad()
            cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
        with torch.no_grad():
            accuracy = (model(x_valid).argmax(1) == y_valid).float().mean().item()
        trial.report(epoch, accuracy=accuracy)


def main() -> None:
    """Opens a study, runs it with two worker processes, shows the best."""
    space = tw.Space(
        lr=tw.Float(1e-4, 1e-1, log=True),
        width=tw.Int(16, 256, log=True),
        decay=tw.Float(1e-6, 1e-1, log=True),
    )
    with tw.Study.open(
        "pytorch-digits",
        space,
        maximize="accuracy",
        steps=EPOCHS,
        storage=sys.argv[1] if len(sys.argv) > 1 else None,
    ) as study:
        study.run(train, trials=16, workers=2)
        resumed = sum(len({r.token for r in t.reports}) > 1 for t in study.trials)
        print(f"best accuracy {study.best.metrics['accuracy']:.4f} with {study.best.params}")
        print(f"{resumed} of {len(study.trials)} trials were paused and resumed; method {study.method}")


if __name__ == "__main__":
    main()
