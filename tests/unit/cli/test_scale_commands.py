"""``scale plan`` and ``scale check`` from the command line: what they print, their exit status, and mistakes."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest

pytest.importorskip("torch")

from tunewright.cli import main

MLP = "tunewright.bench.micro:Mlp"
MODEL = """
    import torch
    from torch import nn

    def build(width=16, classes=3):
        return nn.Sequential(nn.Linear(5, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, classes))

    def batches(seed):
        g = torch.Generator().manual_seed(seed)
        while True:
            x = torch.randn(16, 5, generator=g)
            yield x, (x[:, :1] > 0).float().expand(-1, 3)

    def loss(output, target):
        return (output - target).abs().mean()

    def short(seed):
        return [next(batches(seed))]
"""


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["scale", *args])
    return int(stop.value.code or 0)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    name = f"model_{abs(hash(tmp_path.name))}"  # modules stay imported, so each test has its own
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(MODEL), encoding="utf-8")
    return f"{name}.py"


def test_a_plan_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run("plan", MLP, "--base", "width=32", "--to", "width=128", "--lr", "0.01", "--weight-decay", "0.1")
        == 0
    )
    out = capsys.readouterr().out
    assert "hidden.0.weight  hidden  128x128" in out and "x 0.25" in out
    assert "times 0.25 at the input of outlet" in out
    assert "rate 0.0025, weight decay 0.4: hidden.0.weight" in out


def test_a_plan_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run("plan", MLP, "--base", "width=32", "--to", "width=64", "--lr", "0.01", "--json", "--folded") == 0
    )
    data = json.loads(capsys.readouterr().out)
    assert data["rule"] == "mup" and data["form"] == "folded" and data["multipliers"] == []
    assert data["rates"]["hidden.0.weight"] == pytest.approx(0.005)
    assert data["entries"]["hidden.0.weight"]["role"] == "hidden"


def test_a_check_of_a_file_passes_and_another_rule_fails(
    model: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    common = (
        f"{model}:build",
        "--base",
        "width=16",
        "--sizes",
        "width=16,64,256",
        "--seeds",
        "2",
        "--set",
        "classes=3",
    )
    chart = tmp_path / "chart.svg"
    assert run("check", *common, "--plot", str(chart)) == 0
    out = capsys.readouterr().out
    assert "pass: No change of an output follows the width" in out and "slope" in out
    assert chart.read_text(encoding="utf-8").startswith("<svg")
    assert run("check", *common, "--rule", "sp", "--json") == 1
    data = json.loads(capsys.readouterr().out)
    assert data["passed"] is False and data["checks"][0]["kind"] == "coordinates"
    assert "grows with the width" in data["checks"][0]["why"]


def test_every_kind_of_check_with_data_and_loss_of_the_user(
    model: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    kinds = [word for kind in ("rates", "sharpness") for word in ("--kind", kind)]
    mine = ["--data", f"{model}:batches", "--loss", f"{model}:loss", "--steps", "4", "--seeds", "2"]
    sizes = ["--base", "width=16", "--sizes", "width=16,32", "--rates", "0.001,0.004,0.016"]
    chart = tmp_path / "two.svg"
    status = run(
        "check", f"{model}:build", *kinds, *mine, *sizes, "--optimizer", "sgd", "--json", "--plot", str(chart)
    )
    data = json.loads(capsys.readouterr().out)
    assert status == (0 if data["passed"] else 1)
    rates, sharpness = data["checks"]
    assert rates["kind"] == "rates" and len(rates["losses"][0]) == 3 and rates["optimizer"] == "sgd"
    assert sharpness["kind"] == "sharpness" and sharpness["steps"] == [1, 2, 3, 4]
    assert chart.exists()


def test_the_warmup_probe(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = (
        "tunewright.bench.micro:CharTransformer",
        "--base",
        "width=16",
        "--base",
        "depth=3",
        "--sizes",
        "width=16,32",
    )
    status = run("check", *blocks, "--kind", "warmup", "--json")
    data = json.loads(capsys.readouterr().out)
    assert status == (0 if data["passed"] else 1)
    assert set(data["checks"][0]["probes"]) == {"16", "32"}
    assert data["checks"][0]["probes"]["16"]["verdict"] in ("needed", "not needed", "unclear")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["plan", "Mlp", "--base", "width=32", "--to", "width=64"], "module:function or file.py:function"),
        (["plan", MLP, "--base", "width=3.5", "--to", "width=64"], "whole number"),
        (["plan", MLP, "--base", "width", "--to", "width=64"], "name=value"),
        (["plan", MLP, "--base", "width=32", "--to", "height=64"], "one of width"),
        (["plan", MLP, "--base", "width=32", "--to", "width=64", "--rule", "mupp"], "Did you mean 'mup'"),
        (
            ["plan", MLP, "--base", "width=32", "--to", "width=64", "--optimizer", "adamx"],
            "must be one of sgd",
        ),
        (["plan", MLP, "--base", "width=32", "--to", "width=64", "--lr", "-1"], "must be positive"),
        (["plan", MLP, "--base", "width=32", "--to", "width=64", "--role", "x"], "tensor=role"),
        (["plan", MLP, "--base", "width=32", "--to", "width=64", "--role", "x=input"], "matches none"),
        (["plan", "nowhere_at_all:f", "--base", "width=32", "--to", "width=64"], "must be a module"),
        (["check", MLP, "--base", "width=32", "--sizes", "width=a,b"], "whole numbers with commas"),
        (["check", MLP, "--base", "width=32", "--sizes", "depth=1,2"], "goes along width"),
        (["check", MLP, "--base", "width=32", "--sizes", "width=64"], "2 sizes or more"),
        (["check", MLP, "--base", "width=32", "--lr", "-1"], "--lr must be positive"),
        (["check", MLP, "--base", "width=32", "--kind", "rates", "--rates", "a"], "numbers with commas"),
        (["check", MLP, "--base", "width=32", "--kind", "warmup"], "two blocks"),
        (["check", MLP, "--base", "width=32", "--optimizer", "shampoo", "--rule", "sp"], "pass make="),
    ],
)
def test_mistakes_are_said_in_a_sentence(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == 2
    err = capsys.readouterr().err
    assert says in err and "error[" in err and "Traceback" not in err


def test_batches_that_end_are_a_mistake(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", f"{model}:build", "--base", "width=16", "--data", f"{model}:short") == 2
    assert "ended before" in capsys.readouterr().err


def test_all_leaves_out_the_probe_of_a_model_without_blocks(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--base", "width=16", "--sizes", "width=16,32", "--steps", "2", "--seeds", "1"]
    run("check", MLP, *sizes, "--kind", "all", "--rates", "0.001,0.002,0.004", "--json")
    said = capsys.readouterr()
    assert [c["kind"] for c in json.loads(said.out)["checks"]] == ["coordinates", "rates", "sharpness"]
    assert "left out: " in said.err and "two blocks" in said.err


def test_there_is_nothing_to_draw_of_the_probe(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    blocks = (
        "tunewright.bench.micro:CharTransformer",
        "--base",
        "width=16",
        "--sizes",
        "width=16,32",
        "--kind",
        "warmup",
    )
    assert run("check", *blocks, "--plot", str(tmp_path / "x.svg")) == 2
    assert "Leave --plot out" in capsys.readouterr().err
