"""K-FAC and Shampoo at any width.

Ishikawa and Karakida (2023) derive how first values, rates and damping of second-order optimizers must go with the width for every
layer to learn features, and report that the best rate and damping of narrow networks are then those of wide ones.

Two full runs came before the stored one and were not reproductions: rates that ended below the best ones (all optima at the edge),
and roots computed every tenth step, with which Shampoo broke down at all rates. The rule stayed; rates, widths and steps changed.
At these widths the standard parametrization's best rates move by less than an octave as well; what differs clearly is how far
layers move.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from claims.digit_sweeps import batches
from claims.record import Claim, Result, Verdict
from claims.transfer import moved
from tunewright.errors import MissingExtra

CLAIM = Claim(
    title="With muP for second-order optimizers every layer moves as far at every width, and the best rate stays where it is.",
    paper="Ishikawa and Karakida 2023, arXiv:2312.12226, proposition 4.1 and section 5",
    check=(
        "A network with three hidden layers on the digits, batches of 64, K-FAC (damping .1 at the base) and Shampoo (eps 1e-4), no "
        "momentum, base width 32. Change of every layer's outputs by three steps at widths 64 to 512: its exponent in the width. "
        "Best of eight rates a factor of 2 apart by training loss of 40 steps at widths 32 and 128. Both under "
        "'second-order' and the standard parametrization."
    ),
    rule=(
        "Holds at reduced scale if for both optimizers no layer's exponent is beyond .2 and the best rate at width 128 is at most "
        "one step from that at 32 under 'second-order', while in the standard parametrization a layer's exponent is beyond .25, and "
        "for at least one optimizer the rate that is best at width 32 loses more at width 128 there than under 'second-order'; not "
        "reproduced otherwise."
    ),
)
_BASE = 32
_RATES = {"kfac": tuple(2.0**k for k in range(-6, 2)), "shampoo": tuple(2.0**k for k in range(-6, 2))}
_SMALL = {"kfac": 2.0**-8, "shampoo": 2.0**-6}
_EPS = {"kfac": 0.1, "shampoo": 1e-4}
_RULES = ("second-order", "sp")
Floats = NDArray[np.float64]


def _made(rule: str, optimizer: str, width: int, seed: int, lr: float) -> tuple[Any, Any]:
    from tunewright import scaling
    from tunewright.bench.micro import Mlp
    from tunewright.optim import Kfac, Shampoo

    family = scaling.Family(Mlp, base={"width": _BASE}, fixed={"depth": 3})
    model, plan = family.build(rule, seed, width=width, optimizer=optimizer)  # type: ignore[arg-type]
    eps = _EPS[optimizer]
    groups = plan.param_groups(lr, eps=eps)
    if optimizer == "kfac":
        return model, Kfac(groups, model, momentum=0.0, eps=eps)
    return model, Shampoo(groups, momentum=0.0, eps=eps)


def _trained(model: Any, optimizer: Any, seed: int, steps: int) -> Floats:
    """Loss of every step, infinite from where it broke down."""
    import torch

    out = np.full(steps, np.inf)
    stream = batches(64)(seed)
    for t in range(steps):
        x, y = next(stream)
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        if not torch.isfinite(loss) or loss > 1e3:
            break
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        out[t] = float(loss.detach())
    return out


def _changes(rule: str, optimizer: str, width: int, seed: int) -> Floats:
    """RMS of the change of every layer's outputs by three steps at a small rate."""
    import torch

    model, steps = _made(rule, optimizer, width, seed, _SMALL[optimizer])
    x, _ = next(batches(256)(99))
    seen: dict[str, Any] = {}

    def outputs() -> dict[str, Any]:
        hooks = [
            m.register_forward_hook(lambda _m, _a, out, n=n: seen.__setitem__(n, out.detach()))
            for n, m in model.named_modules()
            if isinstance(m, torch.nn.Linear)
        ]
        with torch.no_grad():
            model(x)
        for hook in hooks:
            hook.remove()
        return dict(seen)

    before = outputs()
    _trained(model, steps, seed, 3)
    after = outputs()
    return np.array([float((after[n] - before[n]).square().mean().sqrt()) for n in before])


def run(quick: bool) -> Result:
    """Checks the claim."""
    baseline = "the standard parametrization with the same optimizers and damping"
    try:
        import sklearn  # noqa: F401
        import torch
    except ImportError:
        return Result(
            "cannot be checked here",
            str(MissingExtra("PyTorch and scikit-learn are needed.")),
            baseline,
            "none",
            (),
        )
    seeds = tuple(range(1 if quick else 10))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _run(quick, seeds, baseline)
    finally:
        torch.set_num_threads(threads)


def _run(quick: bool, seeds: tuple[int, ...], baseline: str) -> Result:
    widths, wide, steps = ((32, 64), (64, 128), 10) if quick else ((32, 128), (64, 128, 256, 512), 40)
    exponents: dict[tuple[str, str], float] = {}
    moves: dict[tuple[str, str], Any] = {}
    for optimizer, rates in _RATES.items():
        for rule in _RULES:
            changes = np.array([[_changes(rule, optimizer, w, s) for s in seeds] for w in wide]).mean(axis=1)
            slopes = np.polyfit(np.log(wide), np.log(changes), 1)[0]
            exponents[optimizer, rule] = float(slopes[np.argmax(np.abs(slopes))])
            tried = rates[::3] if quick else rates
            found = {
                w: np.array(
                    [
                        [
                            float(_trained(*_made(rule, optimizer, w, s, lr), s, steps)[-4:].mean())
                            for s in seeds
                        ]
                        for lr in tried
                    ]
                )
                for w in widths
            }
            moves[optimizer, rule] = moved(tried, found)
    both = list(_RATES)
    still = all(
        abs(exponents[o, "second-order"]) <= 0.2 and abs(moves[o, "second-order"].drift) <= 1 for o in both
    )
    drifts = all(abs(exponents[o, "sp"]) > 0.25 for o in both)
    loses = any(moves[o, "sp"].regret > moves[o, "second-order"].regret for o in both)
    verdict: Verdict = "holds at reduced scale" if still and drifts and loses else "not reproduced"

    def told(optimizer: str, rule: str) -> str:
        m = moves[optimizer, rule]
        return (
            f"{rule}: largest exponent {exponents[optimizer, rule]:+.2f}, best rate moves by {m.drift:+.1f} octaves, the narrow "
            f"one's loses {m.regret:.4f} at width {widths[-1]} over {m.loss:.4f}"
        )

    return Result(
        verdict,
        " ".join(f"{o}, {told(o, 'second-order')}; {told(o, 'sp')}." for o in both),
        baseline,
        "none: exponents of means over seeds, and best rates of mean losses",
        seeds,
        {
            **{f"exponent {o} {r}": v for (o, r), v in exponents.items()},
            **{f"drift {o} {r}": m.drift for (o, r), m in moves.items()},
            **{f"regret {o} {r}": m.regret for (o, r), m in moves.items()},
            **{f"loss {o} {r}": m.loss for (o, r), m in moves.items()},
            **{f"log2 rate {o} {r} {w}": v for (o, r), m in moves.items() for w, v in m.optima.items()},
        },
    )
