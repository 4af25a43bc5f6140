"""Trains a population of PyTorch networks: the worst are replaced by copies of the best, with other hyperparameters.

``TrainingState`` puts everything that a training changes into the checkpoint: weights, the optimizer's moments, all random
generators and the place in the data. So a network that pauses goes on bit for bit, a copy begins with its donor's
weights and its own hyperparameters, and a program that is killed and started again ends with the same networks as
one that never was. Try it: kill it in the middle, and compare the last lines.

Run it: python examples/pytorch_population.py [STUDIES.db] [METHOD]
"""

import hashlib
import sys

import torch
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy
from torch.utils.data import TensorDataset

import tunewright as tw
from tunewright.integrations.torch import ResumableLoader, TrainingState

EPOCHS = 12
TRIALS = 6
OPTIONS = {"pbt": {"size": TRIALS, "interval": 2, "share": 0.34}}


def data() -> tuple[TensorDataset, torch.Tensor, torch.Tensor]:
    """Images and labels: for training together, for validation apart."""
    x, y = load_digits(return_X_y=True)
    images, labels = torch.tensor(x / 16.0, dtype=torch.float32), torch.tensor(y)
    return TensorDataset(images[:800], labels[:800]), images[1200:], labels[1200:]


def train(trial: tw.Attempt) -> None:
    """One network, from wherever it paused, or its donor did, to wherever it is to pause next."""
    torch.set_num_threads(1)
    torch.manual_seed(trial.seed)
    digits, x_valid, y_valid = data()
    loader = ResumableLoader(digits, 40, seed=trial.seed)
    dropout = torch.nn.Dropout(trial["dropout"])
    model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), dropout, torch.nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), trial["lr"], momentum=trial["momentum"])
    trial.keep(state=TrainingState(model, optimizer, loader=loader))
    for epoch in trial.steps():
        model.train()
        for x, y in loader:
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            out = model(x_valid)
        accuracy = (out.argmax(1) == y_valid).float().mean().item()
        trial.report(epoch, loss=cross_entropy(out, y_valid).item(), accuracy=accuracy)


def digest(study: tw.Study, trial: tw.Trial) -> str:
    """Of the weights that a trial ended with."""
    weights = study.checkpoint(trial)["state"]["parts"]["model"]
    return hashlib.sha256(b"".join(w.numpy().tobytes() for w in weights.values())).hexdigest()[:12]


def family(study: tw.Study, trial: tw.Trial) -> str:
    """A trial and those whose weights it began with, the first one first."""
    words = [f"{trial.number}"]
    while trial.parent is not None:
        number, epoch = trial.parent
        trial = study.trials[number]
        words.append(f"{number} until epoch {epoch}")
    return ", ".join(reversed(words))


def main() -> None:
    """Opens a study, runs it in this process, shows the best and where its weights come from."""
    method = sys.argv[2] if len(sys.argv) > 2 else "pbt"
    space = tw.Space(
        lr=tw.Float(1e-2, 1.0, log=True), momentum=tw.Float(0.0, 0.95), dropout=tw.Float(0.0, 0.6)
    )
    with tw.Study.open(
        f"pytorch-{method}",
        space,
        minimize="loss",
        steps=EPOCHS,
        method=method,
        options=OPTIONS.get(method),
        storage=sys.argv[1] if len(sys.argv) > 1 else None,
    ) as study:
        study.run(train, trials=TRIALS)
        forks = sum(t.parent is not None for t in study.trials)
        best = study.best
        print(
            f"{len(study.trials)} trainings, {forks} of them copies that went on with other hyperparameters"
        )
        print(
            f"best loss {best.metrics['loss']:.6f}, accuracy {best.metrics['accuracy']:.4f}, with {best.params}"
        )
        print(f"trained as trial {family(study, best)}; weights {digest(study, best)}")


if __name__ == "__main__":
    main()
