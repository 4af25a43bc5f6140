"""The README's commands for an existing training script run as they are written, with fewer trials."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TRAIN = """
import argparse

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float)
parser.add_argument("--layers", type=int)
given = parser.parse_args()
for epoch in range(1, 4):
    print(f'{{"epoch": {epoch}, "val_loss": {abs(given.lr - 0.01) + given.layers / 100 + 1 / epoch}}}', flush=True)
"""


@pytest.mark.skipif(shutil.which("bash") is None, reason="the block is for a POSIX shell")
def test_the_script_persona(tmp_path: Path) -> None:
    blocks = re.findall(
        r"^```sh\n(.*?)^```$", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    (block,) = [b for b in blocks if "tunewright run" in b]
    assert "--trials 50" in block
    (tmp_path / "train.py").write_text(TRAIN, encoding="utf-8")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-ec", block.replace("--trials 50", "--trials 4")],
        cwd=tmp_path,
        env={**os.environ, "PATH": path, "CI": "true", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[4/4]" in done.stdout
    assert re.search(r"^python train\.py --lr [\d.e-]+ --layers \d$", done.stdout, re.MULTILINE)
    assert done.stdout.count("train: all trials are done; ") == 2
