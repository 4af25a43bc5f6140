"""Tune small, train big: the best learning rate of a narrow transformer, taken over by a wide one.

``python examples/char_transformer.py`` takes a few seconds. The same functions serve the command line::

    tunewright scale plan examples/char_transformer.py:build --base width=32 --to width=128 --lr 0.01
    tunewright scale check examples/char_transformer.py:build --base width=32 --data examples/char_transformer.py:batches
"""

from collections.abc import Iterator

import numpy as np
import torch

from tunewright import scaling
from tunewright.bench.language import Language, windows
from tunewright.bench.micro import CharTransformer, next_letter_loss

SMALL, LARGE = 16, 128
STEPS = 100
RATES = [2.0**k for k in range(-10, -3)]
TEXT, OTHER = Language().text(100_000), Language().text(20_000, seed=1)


def build(width: int = SMALL, depth: int = 1) -> torch.nn.Module:
    """The model at any size: plain PyTorch that knows nothing of parametrizations."""
    return CharTransformer(width=width, depth=depth)


def batches(seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Pieces of a text and the letters that follow, without end."""
    rng = np.random.default_rng(seed)
    while True:
        x, y = windows(TEXT, 32, 8, rng)
        yield torch.from_numpy(x), torch.from_numpy(y)


def train(rule: str, width: int, rate: float) -> float:
    """Trains one model with a plan and returns its loss on new text."""
    model, plan = FAMILY.build(rule, seed=0, width=width, optimizer="adamw")
    optimizer = torch.optim.AdamW(plan.param_groups(rate, weight_decay=0.01))
    for (x, y), _ in zip(batches(0), range(STEPS), strict=False):
        optimizer.zero_grad()
        next_letter_loss(model(x), y).backward()
        optimizer.step()
    new, following = (torch.from_numpy(v) for v in windows(OTHER, 32, 64, np.random.default_rng(0)))
    with torch.no_grad():
        return float(next_letter_loss(model(new), following))


FAMILY = scaling.Family(build, base={"width": SMALL, "depth": 1})

if __name__ == "__main__":
    torch.set_num_threads(1)
    small = {rate: train("mup", SMALL, rate) for rate in RATES}
    best = min(small, key=lambda rate: small[rate])
    print(f"tuned at width {SMALL}: best rate 2^{np.log2(best):g} with loss {small[best]:.3f}")
    for name, loss in (("muP", train("mup", LARGE, best)), ("as PyTorch has it", train("sp", LARGE, best))):
        print(f"width {LARGE} at that rate, {name}: loss {loss:.3f}")
    share = sum(p.numel() for p in build(SMALL).parameters()) / sum(
        p.numel() for p in build(LARGE).parameters()
    )
    print(f"tuning took {len(RATES) * share:.2f} of a training of the large model")
