"""The population example ends with the same networks whether or not it is killed on the way."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.examples
HERE = Path(__file__).parent
EXAMPLE = HERE.parents[1] / "examples" / "pytorch_population.py"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

for package in ("torch", "sklearn"):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed", allow_module_level=True)


def killed(folder: Path, method: str, *places: str) -> tuple[dict[str, Any], int]:
    """What came out of a study that was killed at these places, after a comparison with one that was not."""
    done = subprocess.run(
        [sys.executable, str(HERE / "killed.py"), str(EXAMPLE), str(folder), method, *places],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    whole, cut = found["whole"], found["cut"]
    assert cut["trials"] == whole["trials"]
    assert cut["best"] == whole["best"]
    assert cut["verified"] == whole["verified"]
    assert cut["missing"] == whole["missing"] == whole["loose"] == 0
    return whole, found["killed"]


def test_killed_at_some_places_it_ends_the_same(tmp_path: Path) -> None:
    places = ["after:2", "after:19", "save:3", "saved:2", "after:23", "save:1", "saved:3"]
    whole, times = killed(tmp_path, "pbt", *places)
    assert times == len(places)
    assert any(t["parent"] for t in whole["trials"]), "copies were made"
    assert all(t["weights"] for t in whole["trials"] if t["status"] == "completed")


@pytest.mark.slow
@pytest.mark.parametrize("method", ["pbt", "asha"])
@pytest.mark.parametrize("seed", range(3))
def test_killed_at_random_places_it_ends_the_same(method: str, seed: int, tmp_path: Path) -> None:
    # Far enough apart that no trial is lost three times on one segment, which would be the end of it.
    rng = random.Random(seed)
    kinds = {"after": (10, 16), "save": (2, 4), "saved": (2, 4)}
    chosen = rng.choices(list(kinds), k=8)
    _, times = killed(tmp_path, method, *(f"{kind}:{rng.randint(*kinds[kind])}" for kind in chosen))
    assert times >= 2


@pytest.mark.slow
def test_killed_from_outside_it_says_the_same(tmp_path: Path) -> None:
    def command(name: str) -> list[str]:
        return [sys.executable, str(EXAMPLE), str(tmp_path / name)]

    whole = subprocess.run(
        command("whole.db"), env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=True
    )
    rng = random.Random(1)
    for _ in range(3):
        process = subprocess.Popen(
            command("cut.db"), env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.5 * rng.random())
        process.kill()
        process.communicate()
    again = subprocess.run(
        command("cut.db"), env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=True
    )
    assert again.stdout.splitlines()[-3:] == whole.stdout.splitlines()[-3:]
