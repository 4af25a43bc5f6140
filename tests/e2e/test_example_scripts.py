"""Every example runs as its user would run it, and says what it found."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.examples
EXAMPLES = Path(__file__).parents[2] / "examples"
# name -> (what must be installed, pattern of the last lines, whether it takes over ten seconds on a busy machine)
SAYS = {
    "sklearn_svm": (("sklearn",), r"best accuracy 0\.9\d+ with", False),
    "sklearn_search": (
        ("sklearn",),
        r"best accuracy 0\.9\d+, \+0\.0\d+ over the defaults\non new digits 0\.9\d+, defaults 0\.9\d+\nwith ",
        False,
    ),
    "lightgbm_trees": (
        ("lightgbm", "sklearn"),
        r"[23]\d\d trees instead of 540\nbest loss 0\.[1-4]\d+ with ",
        False,
    ),
    "lightning_digits": (
        ("lightning", "sklearn"),
        r"[1-9] of 8 trials were paused\nbest accuracy 0\.9\d+ with ",
        True,
    ),
    "pytorch_digits": (
        ("torch", "sklearn"),
        r"best accuracy 0\.[89]\d+ with .*\n[1-9]\d* of 16 trials were paused",
        True,
    ),
    "pytorch_population": (
        ("torch", "sklearn"),
        r"[1-9]\d* of them copies .*\nbest loss 0\.\d+, accuracy 0\.[89]\d+, with .*\ntrained as trial .*; weights \w{12}",
        True,
    ),
    "architecture_search": (
        ("torch", "sklearn"),
        r"best accuracy 0\.[89]\d+ with lr .* and\nModule\('conv', .* -> Module\('dense', units=10\)",
        True,
    ),
    "badly_scaled_features": (
        ("torch", "sklearn"),
        r"standardised: SANIA, untuned: loss (0\.\d+), accuracy 0\.9\d+\n.*\n *bad units: SANIA, untuned: loss \1, .*\n *Adam .* loss [1-9]",
        False,
    ),
    "ask_tell": ((), r"best value 0\.\d+ at x=", False),
    "learned_optimizer": (
        ("torch", "sklearn"),
        r"Adam: test loss 0\.\d+ at 0\.001, .*\nlearned optimizer: test loss 0\.[23]\d+ with nothing chosen",
        False,
    ),
    "trainability_map": (
        ("torch",),
        r"converged \(#\) in \d\d% of the map\nfirst layer, .* diverges from 6\.\d+, stay below 3\.\d+",
        False,
    ),
    "lr_range_test": (
        ("torch", "sklearn"),
        r"RangeTest\(suggestion 0\.\d+; .*\ntest loss 0\.[01]\d+ with .*, [12]\.\d+ with 0\.001",
        False,
    ),
    "define_by_run": ((), r"best loss 0\.\d+ with .*\nthe space has grown to Space\(layers, ", False),
    "from_optuna": ((), r"best error 0\.\d+ with .*; [1-9]\d* of 40 trials were pruned", False),
    "boss": (
        ("sklearn",),
        r"best accuracy 0\.[89]\d+ in trial \d+; 0\.[789]\d+ in the first 8\n24 of 32 trials had",
        False,
    ),
    "meta_gradient_gamma": (
        ("torch",),
        r"fixed discount 0\.800.*\nfood per game [34]\..*\nself-tuned discount 0\.800, .*, 0\.9\d+\nfood per game [5-9]\.",
        True,
    ),
    "evidence_weight_decay": (
        ("torch", "sklearn"),
        r"exact evidence: test loss 0\.[12]\d+, accuracy 0\.9.*\nbound, .* accuracy 0\.9.*\n(decay .*\n?){3}",
        True,
    ),
    "inside_weight_decay": (
        ("torch", "sklearn"),
        r"test loss 0\.1\d+ with a learned decay per tensor, ",
        False,
    ),
    "inside_label_smoothing": (
        ("torch", "sklearn"),
        r"test loss 0\.4\d+ with smoothing 0\.[01]\d+, 0\.[56]\d+ with 0\.2",
        False,
    ),
    "inside_loss_weights": (
        ("torch", "sklearn"),
        r"test loss 0\.[67]\d+ with .* crowd 0\.[345]\d+, bot 0\.[01]\d+; [01]\.\d+ with 1",
        True,
    ),
    "inside_data_weights": (
        ("torch", "sklearn"),
        r"3[2-5]\d of 350 wrong labels found, \d\d? false .*\n.* 0\.9\d+ of .* kept rows\n.*\n.* 0\.[78]\d+ of .* all",
        False,
    ),
    "inside_augmentation": (("torch", "sklearn"), r"test loss 0\.1\d+ with learned strengths, ", False),
    "inside_dropout": (("torch", "sklearn"), r"test loss 0\.1\d+ with rates 0\.\d+, 0\.[2-6]\d+, ", False),
    "inside_learning_rates": (
        ("torch", "sklearn"),
        r"test loss 0\.[12]\d+ after one run .*, 1\.\d+ with 0\.003",
        False,
    ),
    "self_tuning_dropout": (
        ("torch", "sklearn"),
        r"best epoch \d+, loss on images never used: 0\.\d+",
        False,
    ),
    "federated_rates": (
        ("torch", "sklearn"),
        r"LocalSgd: accuracy 0\.[2-6].*\nLocalSgd with FedHyper: accuracy 0\.[89].*\nLocalDeltaSgd: accuracy 0\.[89].* sent",
        False,
    ),
    "does_tuning_pay": (
        ("torch", "sklearn"),
        r"prodigy +0 .* baseline .*\nAdamW chose .*\n(Tuning pays here|Nothing that was tuned).* 9 times the steps",
        False,
    ),
    "report_what_it_chose": (
        ("torch", "sklearn"),
        r"lr went from .*\nbest loss 0\.[01]\d+ with width \d+; it chose d = 0\.\d+\ndrawn in chosen\.svg",
        False,
    ),
    "growing_batches": (
        ("torch", "sklearn"),
        r"batches of 8: accuracy 0\.9\d+ in 2250 .*\ngrowing batches: accuracy 0\.9\d+ in \d{3,4} steps; sizes 8 ",
        True,
    ),
    "no_learning_rate": (
        ("torch",),
        r"AdamW at 1e-05: 0\.[45]\d+\n(.*\n){2}Prodigy: 0\.[01]\d+, having .* 0\.0\d+\nDoG, averaged: 0\.[0123]\d+, ",
        False,
    ),
    "sparse_regression": (
        ("torch",),
        r"MCP: 1\d columns, 0 of 8 missed, .* off by 0\.0.*\nlasso: .* off by 0\.1.*\nderived settings: \d\d steps",
        False,
    ),
    "char_transformer": (
        ("torch",),
        r"best rate 2\^-\d with .*\nwidth 128 at that rate, muP: loss 1\.[1-4]\d+\n.* PyTorch has it: loss [1-3]\..*\ntuning took 0\.1",
        True,
    ),
    "async_trials": ((), r"best cost 0\.0\d* with .*; 40 trials", False),
}


def test_every_example_is_in_the_list() -> None:
    assert {p.stem for p in EXAMPLES.glob("*.py")} == set(SAYS)


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if slow else n for n, (_, _, slow) in SAYS.items()]
)
def test_an_example_runs(name: str, tmp_path: Path) -> None:
    needs, pattern, _ = SAYS[name]
    for package in needs:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"{name}.py")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert re.search(pattern, done.stdout), done.stdout


@pytest.mark.slow
def test_the_pytorch_example_goes_on_where_it_was(tmp_path: Path) -> None:
    for package in ("torch", "sklearn"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    command = [sys.executable, str(EXAMPLES / "pytorch_digits.py"), str(tmp_path / "s.db")]
    first = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    again = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    assert first.stdout.splitlines()[-2:] == again.stdout.splitlines()[-2:]
    assert "trial 0 " not in again.stdout
