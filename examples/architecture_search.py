"""Searches the architecture of a PyTorch network: how many blocks, what is in them, and how they are trained.

Run it: python examples/architecture_search.py [STUDIES.db]
"""

import sys

import torch
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy

import tunewright as tw
from tunewright.architect import Module, Optional, Or, Repeat, Residual, graph, modules, space
from tunewright.integrations.architect_torch import build

NET = [
    Module("conv", filters=tw.Order([4, 8, 16]), name="stem"),
    Repeat(
        Residual(
            [
                Module("conv", filters=tw.Order([4, 8, 16])),
                Or("relu", "tanh", "gelu", name="activation"),
                Optional("batchnorm", name="normalised"),
            ],
            name="block",
        ),
        [0, 1, 2],
        name="depth",
    ),
    Or("globalpool", ["maxpool", "flatten"], name="head"),
    Module("dense", units=10),
]
EPOCHS = 2


def train(trial: tw.Attempt) -> float:
    """Trains one network; returns its accuracy on images it has not seen."""
    torch.set_num_threads(1)
    torch.manual_seed(trial.seed)
    pixels, labels = load_digits(return_X_y=True)
    x, y = torch.tensor(pixels / 16.0, dtype=torch.float32).reshape(-1, 1, 8, 8), torch.tensor(labels)
    model = build(graph(NET, trial.params), shape=(1, 8, 8))
    optimizer = torch.optim.AdamW(model.parameters(), trial.params["lr"])
    for _ in range(EPOCHS):
        for rows in torch.randperm(1200).split(64):
            optimizer.zero_grad()
            cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
    model.eval()
    with torch.no_grad():
        return (model(x[1200:]).argmax(1) == y[1200:]).float().mean().item()


def main() -> None:
    """Opens a study, trains 25 networks, shows the best."""
    with tw.Study.open(
        "architecture-search",
        space(NET, lr=tw.Float(1e-4, 1e-1, log=True)),
        maximize="accuracy",
        method="tree_smbo",
        storage=sys.argv[1] if len(sys.argv) > 1 else None,
    ) as study:
        study.run(train, trials=25)
        best = study.best
        print(f"best accuracy {best.metrics['accuracy']:.3f} with lr {best.params['lr']:.2g} and")
        print(" -> ".join(str(module) for module in modules(graph(NET, best.params))))


if __name__ == "__main__":
    main()
