"""What Optuna's words over Tunewright, and Tunewright's sampler inside Optuna, cost beside Optuna itself.

``python -m benchmarks.integrations [--quick]``: CPU time per trial of one conditional objective, all in one process and
one run, the objective included. Needs Optuna (``pip install "tunewright[optuna]"``).
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import math
import platform
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results" / "integrations.json"


def objective(trial: Any) -> float:
    """Four parameters for all, and one that only an option opens."""
    x = trial.suggest_float("x", -5, 5)
    rate = trial.suggest_float("rate", 1e-5, 1, log=True)
    layers = trial.suggest_int("layers", 1, 8)
    loss = (x - 1) ** 2 + abs(math.log10(rate) + 2) + abs(layers - 3)
    if trial.suggest_categorical("kind", ["a", "b", "c"]) == "a":
        return loss + abs(trial.suggest_float("share", 0, 1) - 0.3)
    return loss + 1


def milliseconds(study: Any, trials: int) -> float:
    """CPU time per trial."""
    began = time.process_time()
    study.optimize(objective, n_trials=trials)
    return round((time.process_time() - began) / trials * 1e3, 3)


def rows(trials: int, few: int) -> dict[str, float]:
    """Every row of the table."""
    import optuna

    from tunewright.integrations import optuna as ours
    from tunewright.integrations.optuna_sampler import TunewrightSampler

    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    ours.logging.set_verbosity(ours.logging.CRITICAL)
    out: dict[str, float] = {}
    for label, module in (("optuna", optuna), ("shim", ours)):
        for name in ("RandomSampler", "TPESampler"):
            study = module.create_study(sampler=getattr(module.samplers, name)(seed=1))
            out[f"{label}, {name}, memory"] = milliseconds(study, trials)
            with tempfile.TemporaryDirectory() as folder:
                url = f"sqlite:///{folder}/study.db"
                study = module.create_study(storage=url, sampler=getattr(module.samplers, name)(seed=1))
                out[f"{label}, {name}, SQLite"] = milliseconds(study, few)
    out["shim, default, memory"] = milliseconds(ours.create_study(), few)
    for method in ("random", "tpe"):
        study = optuna.create_study(sampler=TunewrightSampler(method, seed=1))
        out[f"optuna, TunewrightSampler({method}), memory"] = milliseconds(study, trials)
    study = optuna.create_study(sampler=TunewrightSampler(seed=1))
    out["optuna, TunewrightSampler(auto), memory"] = milliseconds(study, few)
    return out


def main() -> None:
    """Prints the table, and keeps it unless it was a quick run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the trials; nothing is kept")
    quick = parser.parse_args().quick
    trials, few = (100, 20) if quick else (1000, 200)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = rows(trials, few)
    for name, value in table.items():
        print(f"{name:46} {value:8.2f} ms CPU per trial")
    if not quick:
        kept = {
            "optuna": importlib.metadata.version("optuna"),
            "python": platform.python_version(),
            "trials": {"memory": trials, "SQLite and models": few},
            "milliseconds per trial": table,
        }
        RESULTS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
