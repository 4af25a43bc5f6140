"""A training script like many: argparse, a loop over epochs, a line per epoch. It knows nothing of Tunewright."""

from __future__ import annotations

import argparse
import os

import torch
from sklearn.datasets import load_digits

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=1e-3, help="learning rate")
parser.add_argument("--width", type=int, default=64, help="units of the hidden layer")
parser.add_argument("--opt", choices=["adam", "sgd", "rmsprop"], default="adam", help="optimizer")
parser.add_argument("--epochs", type=int, default=9)
parser.add_argument("--seed", type=int, default=int(os.environ.get("TUNEWRIGHT_SEED", "0")))
args = parser.parse_args()

torch.set_num_threads(1)
torch.manual_seed(args.seed % 2**31)
data, labels = load_digits(return_X_y=True)
x, y = torch.tensor(data, dtype=torch.float32) / 16, torch.tensor(labels)
order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
train, val = order[:1300], order[1300:]
model = torch.nn.Sequential(torch.nn.Linear(64, args.width), torch.nn.ReLU(), torch.nn.Linear(args.width, 10))
kinds = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD, "rmsprop": torch.optim.RMSprop}
optimizer = kinds[args.opt](model.parameters(), lr=args.lr)
for epoch in range(1, args.epochs + 1):
    for batch in train[torch.randperm(len(train))].split(64):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x[batch]), y[batch])
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        acc = (model(x[val]).argmax(1) == y[val]).float().mean().item()
    print(f"epoch {epoch} train_loss={loss.item():.4f} val_acc={acc:.4f}", flush=True)
