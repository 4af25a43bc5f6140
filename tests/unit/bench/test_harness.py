from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tunewright.bench.tables import folder

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
from benchmarks import harness


def test_ours_are_told_from_peers() -> None:
    assert harness.is_ours("tw_tpe")
    assert harness.is_ours("mf_tw_asha")
    assert not harness.is_ours("mf_optuna_tpe_hb")
    assert harness.usable("mf_tw_asha")
    assert not harness.usable("nosuchpackage_tpe")


@pytest.mark.slow
@pytest.mark.skipif(not (folder("peerbench") / "worker.py").exists(), reason="needs the peerbench harness")
@pytest.mark.parametrize(
    ("suite", "adapters"),
    [("svm_digits", "tw_random,tw_tpe"), ("mlp_breast_cancer", "mf_tw_asha,mf_tw_halting")],
)
def test_the_harness_runs_our_adapter(suite: str, adapters: str, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["--suite", suite, "--adapters", adapters, "--seeds", "1", "--budget", "2"]
    assert harness.main(arguments) == 0
    out = capfd.readouterr().out
    for adapter in adapters.split(","):
        (row,) = [line for line in out.splitlines() if line.startswith(f"| {adapter} |")]
        assert "1-1" in row
        assert "Error" not in row


@pytest.mark.slow
@pytest.mark.skipif(not (folder("peerbench") / "worker.py").exists(), reason="needs the peerbench harness")
def test_quick_means_two_seeds_and_fifty_trials(capfd: pytest.CaptureFixture[str]) -> None:
    assert (
        harness.main(["--quick", "--suite", "svm_digits", "--adapters", "tw_random,nosuchpackage_tpe"]) == 0
    )
    out = capfd.readouterr().out
    assert "nosuchpackage_tpe left out" in out
    (row,) = [line for line in out.splitlines() if line.startswith("| tw_random |")]
    cells = [cell.strip() for cell in row.split("|")[2:-1]]
    assert [cell == "-" for cell in cells[:4]] == [False, False, True, True], "25 and 50 trials, not 100"
    assert cells[4] == "2-2"
