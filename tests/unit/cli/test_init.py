"""Sweep files written from scripts, and what shells and other screens are told."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import tunewright as tw
from tunewright.cli import main
from tunewright.cli.guessing import Option, declaration, metric_of, options_of, options_of_help
from tunewright.cli.sweep import sweep_of

SCRIPT = """
import argparse, json
p = argparse.ArgumentParser()
p.add_argument("data", help="where images are")
p.add_argument("-l", "--lr", type=float, default=1e-3, help="learning   rate")
p.add_argument("--weight-decay", type=float, default=0.0)
p.add_argument("--batch-size", type=int, default=64)
p.add_argument("--hidden", type=int, default=128)
p.add_argument("--layers", default=2)
p.add_argument("--dropout", type=float, default=0.1)
p.add_argument("--opt", choices=["adam", "sgd"], default="adam")
p.add_argument("--epochs", type=int, default=10)
p.add_argument("--seed", type=int, default=0)
p.add_argument("--out", default="runs")
p.add_argument("--amp", action="store_true")
p.add_argument("--files", nargs="*")
a = p.parse_args()
for epoch in range(a.epochs):
    print(f"epoch {epoch} train_loss={1.0:.3f} val_acc={a.lr:.3f}")
"""


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(w) for w in words])
    return int(stop.value.code or 0)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(SCRIPT)
    return tmp_path


def test_a_sweep_file_from_a_script(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("init", "train.py") == 0
    out = capsys.readouterr().out
    assert out.splitlines() == [
        "sweep.toml: 7 of 12 options to be tuned: lr, weight_decay, batch_size, hidden, layers, dropout, opt",
        "next    look through it, then: tunewright run sweep.toml",
    ]
    text = (folder / "sweep.toml").read_text()
    data = tomllib.loads(text)
    assert data["command"] == (
        "python train.py VALUE --lr {lr} --weight-decay {weight_decay} --batch-size {batch_size} --hidden {hidden} "
        "--layers {layers} --dropout {dropout} --opt {opt} --epochs 10 --seed {seed}"
    )
    assert data["maximize"] == "val_acc"
    assert data["space"] == {
        "lr": {"log": [1e-05, 0.03], "default": 0.001},
        "weight_decay": {"log": [1e-06, 0.1]},
        "batch_size": {"order": [16, 32, 64, 128, 256], "default": 64},
        "hidden": {"int_log": [32, 512], "default": 128},
        "layers": {"int": [1, 4], "default": 2},
        "dropout": {"float": [0.0, 0.6], "default": 0.1},
        "opt": {"choice": ["adam", "sgd"], "default": "adam"},
    }
    assert text.startswith("#:schema .tunewright/sweep.schema.json\n")
    assert (
        json.loads((folder / ".tunewright" / "sweep.schema.json").read_text())["title"] == "Tunewright sweep"
    )
    assert "# learning rate" in text
    assert "# out: str, default runs" in text
    assert "# data: str, where images are" in text
    sweep = sweep_of(["sweep.toml"], {})
    assert sweep.space is not None
    assert sweep.space.d >= 7
    assert run("init", "train.py") == 2
    assert "'sweep.toml' exists. Pass --force" in capsys.readouterr().err
    assert run("init", "train.py", "--force", "--json") == 0
    assert json.loads(capsys.readouterr().out)["tuned"][0] == "lr"
    assert run("init", "train.py", "-o", "-") == 0
    assert capsys.readouterr().out == text


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("print(1)", "it declares none with argparse or click. Pass --run-help"),
        ("def (", "must be Python to be read"),
    ],
)
def test_scripts_that_cannot_be_read(
    folder: Path, capsys: pytest.CaptureFixture[str], body: str, message: str
) -> None:
    (folder / "bad.py").write_text(body)
    assert run("init", "bad.py") == 2
    assert message in capsys.readouterr().err
    assert run("init", "absent.py") == 2
    assert run("init") == 2


def test_options_of_click_and_typer() -> None:
    found = options_of(
        "import click\n@click.command()\n@click.option('--lr', default=0.1, type=float)\n"
        "@click.option('--opt', type=click.Choice(['a', 'b']))\n@click.option('--amp/--no-amp', is_flag=True)\n"
        "def main(): pass\n"
    )
    assert [(o.flag, o.kind, o.default) for o in found] == [
        ("--lr", "float", 0.1), ("--opt", "choice", None), ("--amp", "bool", False),
    ]  # fmt: skip


def test_options_of_a_help_page() -> None:
    found = options_of_help(
        "Usage: t [OPTIONS]\n\nOptions:\n  --lr FLOAT            Learning rate.  [default: 0.01]\n"
        "  -w, --width INTEGER   Units.  [default: 64]\n  --opt [adam|sgd]      Optimizer.  [default: sgd]\n"
        "  --amp                 Faster.\n  --name TEXT           Name.\n  --help                Show this.\n"
    )
    assert [(o.flag, o.kind, o.default) for o in found] == [
        ("--lr", "float", 0.01), ("--width", "int", 64), ("--opt", "choice", "sgd"), ("--amp", "bool", None),
        ("--name", "str", None),
    ]  # fmt: skip


def test_a_script_is_run_only_when_asked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "late.py").write_text(
        "import argparse\nopen('ran', 'w')\np = argparse.ArgumentParser()\n"
        "for n in ['lr', 'wd']:\n    p.add_argument(f'--{n}', type=float, metavar='FLOAT', default=.1, help='[default: %(default)s]')\np.parse_args()\n"
    )
    assert run("init", "late.py") == 2
    assert not (folder / "ran").exists()
    assert run("init", "late.py", "--run-help") == 0
    assert "lr, wd" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("option", "said"),
    [
        (Option("--lr", "float", None), "{ log = [0.0001, 0.3] }"),
        (Option("--momentum", "float", 0.9), "{ float = [0.5, 0.99], default = 0.9 }"),
        (Option("--scale", "float", 2.0), "{ log = [0.2, 20.0], default = 2.0 }"),
        (Option("--scale", "float", -1.0), None),
        (Option("--heads", "int", 4), "{ int = [1, 9], default = 4 }"),
        (Option("--k", "int", None), None),
        (Option("--opt", "choice", None, ("a", 1)), '["a", 1]'),
        (Option("--bs", "int", 48), "{ order = [8, 16, 32, 48, 64, 128], default = 48 }"),
    ],
)
def test_guesses(option: Option, said: str | None) -> None:
    assert declaration(option) == said


@pytest.mark.parametrize(
    ("source", "metric"),
    [
        ("print(f'loss={x} val_loss: {y:.3f}')", ("val_loss", "minimize")),
        ("print('accuracy: %.3f' % x)", ("accuracy", "maximize")),
        ("print(json.dumps({'epoch': 1, 'test/auc': x}))", ("test/auc", "maximize")),
        ("print('done')", None),
    ],
)
def test_the_metric_is_guessed(source: str, metric: tuple[str, str] | None) -> None:
    assert metric_of(source) == metric


@pytest.mark.parametrize(
    ("shell", "word"),
    [("bash", "complete -o"), ("zsh", "#compdef tunewright"), ("fish", "complete --no-files")],
)
def test_completion(shell: str, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("completion", shell) == 0
    out = capsys.readouterr().out
    assert word in out
    assert "_TUNEWRIGHT_COMPLETE" in out


def test_a_shell_completes_commands() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tunewright"], capture_output=True, text=True, check=False,
        env={"_TUNEWRIGHT_COMPLETE": "bash_complete", "COMP_WORDS": "tunewright comp", "COMP_CWORD": "1", "PATH": ""},
    )  # fmt: skip
    assert done.stdout.split() == ["plain,compare", "plain,completion"]


def test_create_then_watch(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [sys.executable, "train.py", "x", "--lr", "{lr:log 1e-5..1e-1 = 1e-3}"]
    words: list[Any] = [
        "create",
        "--name",
        "c",
        "--maximize",
        "val_acc",
        "--method",
        "random",
        "--seeds",
        2,
        "--gpus",
        3,
    ]
    assert run(*words, "--", *command) == 0
    assert "tunewright worker c" in capsys.readouterr().out
    study = tw.Study.open("c", exist="must")
    assert not study.trials
    assert [q.config for q in study.session.ledger.queue.values()] == [{"lr": 1e-3}]
    asked = study.ask()
    assert asked is not None
    asked.tell(val_acc=0.5)
    assert run("watch", "c", "--json", "--until-done", "--every", "10ms") == 0
    assert [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()] == [
        "study.started",
        "study.finished",
    ]
    assert run("watch", "c", "--progress", "plain", "--until-done", "--every", "10ms") == 0
    assert "1 done, 0 running" in capsys.readouterr().out
    assert run("worker", "./.tunewright/studies.db", "c", "--trials", "2", "--until", "30s") == 0
    found = study.trials[1]
    assert found.status == "completed"
    assert found.metrics["val_acc_std"] == 0.0


def test_the_environment_names_the_store(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with tw.Study.open("there", {"x": tw.Float(0.0, 1.0)}, method="random", storage="far.db") as study:
        study.run(lambda x: x, trials=1, progress="none")
    monkeypatch.setenv("TUNEWRIGHT_SERVER", "far.db")
    assert run("ls", "--json") == 0
    assert [s["study"] for s in json.loads(capsys.readouterr().out)] == ["there"]
    assert run("best", "--store", "far.db") == 0
    assert run("worker", "there") == 2
    assert "--command-from-study needs a study" in capsys.readouterr().err
