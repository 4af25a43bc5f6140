"""Sweeps as people write them: early stopping, budgets, GPUs, retries; and the schema of the files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tunewright as tw
from tunewright.cli import main, schema
from tunewright.cli.sweep import read_file, sweep_of
from tunewright.cli.wishes import changed, retries, steps_of
from tunewright.errors import ConfigError, MissingExtra, SpaceError
from tunewright.run import gpus

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "t.py", "--lr", "{lr:log 1e-5..1e-1}", "--epochs", "30"]


def wished(words: list[str] | None = None, **given: Any) -> Any:
    return sweep_of(words or COMMAND, given)


@pytest.mark.parametrize(
    ("argv", "steps"),
    [
        (["t", "--epochs", "30"], 30),
        (["t", "--max_epochs=12"], 12),
        (["t", "--num-train-epochs", "3"], 3),
        (["t", "trainer.max_epochs=7"], None),
        (["t", "epochs=7"], 7),
        (["t", "--epochs", "{epochs}"], None),
        (["t", "--lr", "30"], None),
        (["t", "--epochs"], None),
    ],
)
def test_steps_are_read_off_the_command(argv: list[str], steps: int | None) -> None:
    assert steps_of(argv) == steps


@pytest.mark.parametrize(
    ("given", "method", "steps"),
    [
        ({"early_stop": "asha"}, "halting", 30),
        ({"early_stop": "asha", "resumable": True}, "asha", 30),
        ({"early_stop": "asha", "method": "bayes"}, "halting(bayes)", 30),
        ({"early_stop": "median", "steps": "3..9"}, "median", "3..9"),
        ({"early_stop": "auto"}, None, 30),
        ({"early_stop": "none"}, None, None),
    ],
)
def test_early_stopping(given: dict[str, Any], method: str | None, steps: Any) -> None:
    sweep = wished(**given)
    assert (sweep.study.get("method"), sweep.study.get("steps")) == (method, steps)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"early_stop": "asah"}, r"known scheduler; got 'asah'. Did you mean 'asha'\?"),
        ({"seeds": -1}, "seeds must be a whole number from 1; got -1"),
        ({"retry": "oom"}, "retry must say how often, as lost=2,oom=1,failed=0; got 'oom'"),
        ({"gpus": "0"}, "gpus must be all, how many, or a list such as 0,2; got '0'"),
        ({"gpus": "0,1", "gpus_per_trial": -1}, "gpus_per_trial must be a number above 0"),
    ],
)
def test_wishes_that_cannot_be_met(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        wished(**given)


def test_early_stopping_needs_steps() -> None:
    with pytest.raises(
        ConfigError, match=r"needs the steps of a full training; the command names no --epochs"
    ):
        wished(COMMAND[:4], early_stop="asha")


def test_budgets_and_retries() -> None:
    assert wished(budget="8h").limits["timeout"] == "8h"
    assert wished(budget="+4h").limits["timeout"] == "4h"
    assert wished(budget="100 trials").limits["trials"] == "100"
    assert wished(budget="+1 trial").limits["trials"] == "+1"
    assert retries("lost=2, oom=1") == retries({"lost": 2, "oom": 1}) == {"lost": 2, "oom": 1}


def test_gpus_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    assert gpus.present() == ["4", "5", "6", "7"]
    assert (wished(gpus="all").limits["devices"], wished(gpus="all").limits["per_device"]) == ("4,5,6,7", 1.0)
    assert wished(gpus="2").limits["devices"] == "4,5"
    assert wished(gpus="1,3").limits["devices"] == "1,3", "a list is taken as it is"
    assert wished(gpus_per_trial=2).limits["per_device"] == 0.5
    assert wished(gpus_per_trial=0.5).limits["per_device"] == 2.0
    assert wished(gpus="none").limits.get("devices") is None
    with pytest.raises(ConfigError, match="gpus=9 needs 9 of them; found 4 here. Pass --gpus none"):
        wished(gpus="9")
    assert "devices" not in sweep_of(COMMAND, {"gpus": "9"}, here=False).limits, "another machine will train"


def test_gpus_of_the_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 0\necho 1\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus.chosen("all") == ["0", "1"]
    tool.write_text("#!/bin/sh\nexit 9\n")
    monkeypatch.setattr(Path, "glob", lambda self, pattern: iter(()))
    assert gpus.present() == []
    with pytest.raises(ConfigError, match="needs a GPU; found none here"):
        gpus.chosen("all")


def test_files_of_every_kind(tmp_path: Path) -> None:
    toml = tmp_path / "s.toml"
    toml.write_text(
        'command = "t {x}"\nminimize = "loss"\nseeds = 2\n[space]\nx = "0.0..1.0"\n[run]\nretry = { lost = 2 }\n'
    )
    yaml = tmp_path / "s.yaml"
    yaml.write_text(
        "command: t {x}\nminimize: loss\nseeds: 2\nspace: {x: 0.0..1.0}\nrun: {retry: {lost: 2}}\n"
    )
    text = tmp_path / "s.json"
    text.write_text(json.dumps({"$schema": "x", **read_file(str(toml))}))
    sweeps = [sweep_of([str(p)], {}) for p in (toml, yaml, text)]
    assert sweeps[0] == sweeps[1] == sweeps[2]
    assert sweeps[0].limits == {"seeds": 2, "retry": {"lost": 2}}
    yaml.write_text("a: [")
    with pytest.raises(ConfigError, match="must be YAML; reading it gave"):
        read_file(str(yaml))
    toml.write_text('command = "t {x}"\nearly_stopp = "asha"\n')
    with pytest.raises(ConfigError, match=r"got 'early_stopp'. Did you mean 'early_stop'\?"):
        sweep_of([str(toml)], {})


def test_yaml_needs_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "s.yml"
    path.write_text("command: t")
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(MissingExtra, match=r"tunewright\[yaml\]"):
        read_file(str(path))


def test_a_space_is_changed_by_words() -> None:
    study = tw.Study.open(
        "s",
        tw.Space(lr=tw.Float(1e-5, 0.1, log=True), o=tw.Choice(["a", "b"])),
        method="random",
        storage="memory",
    )
    lines = changed(study, ["lr.high=0.3", "o=a|b|c"])
    assert lines == [
        "space of 's': ~ lr: a number in [1e-05, 0.1], log scale -> a number in [1e-05, 0.3], log scale",
        "space of 's': ~ o: one of 'a', 'b' -> one of 'a', 'b', 'c'",
    ]
    assert study.space.to_dict()["parameters"][0]["high"] == 0.3
    assert changed(study, ["lr.high=0.3"]) == ["the space is the same as before"]
    for word, message in [
        ("lr.high", "needs NAME.FIELD=VALUE"),
        ("lrr.high=1", "got .lrr.. Did you mean .lr."),
        ("lr.hihg=1", "got 'hihg'. Did you mean 'high'"),
    ]:
        with pytest.raises(ConfigError, match=message):
            changed(study, [word])
    with pytest.raises(SpaceError, match="low < high"):
        changed(study, ["lr.high=1e-9"])


# ---------------------------------------------------------------- the schema


def test_the_published_schema_is_current(capsys: pytest.CaptureFixture[str]) -> None:
    published = (ROOT / "docs" / "reference" / "sweep.schema.json").read_text(encoding="utf-8")
    assert published == schema.text(), "run: tunewright init --schema > docs/reference/sweep.schema.json"
    with pytest.raises(SystemExit):
        main(["init", "--schema"])
    assert capsys.readouterr().out == published


GOOD = {
    "command": "t {lr}",
    "maximize": "acc",
    "early_stop": "asha",
    "steps": "3..9",
    "space": {
        "lr": {"log": [1e-5, 0.1], "default": 1e-3},
        "w": {"int_log": [16, 512]},
        "o": ["a", "b"],
        "n": "int 1..8",
        "m": {"choice": {"svm": {"C": {"log": [1e-3, 1e3]}}, "tree": {}}},
        "s": {"subset": ["a", "b"], "least": 1},
    },
    "run": {
        "budget": "8h",
        "gpus_per_trial": 1,
        "retry": {"lost": 2, "oom": 0},
        "trials": "+20",
        "metrics": "tb:runs",
    },
}


def test_the_schema_tells_right_from_wrong() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    check = jsonschema.Draft202012Validator(schema.schema())
    jsonschema.Draft202012Validator.check_schema(schema.schema())
    assert [e.message for e in check.iter_errors(GOOD)] == []
    wrong: list[dict[str, Any]] = [
        {**GOOD, "comand": "t"},
        {**GOOD, "function": "a.py:f"},
        {k: v for k, v in GOOD.items() if k != "command"},
        {**GOOD, "space": {"lr": {"log": [0, 1]}}},
        {**GOOD, "space": {"lr": {"log": [1]}}},
        {**GOOD, "run": {"trails": 3}},
        {**GOOD, "run": {"metrics": "csv:x"}},
        {**GOOD, "run": {"retry": {"oops": 1}}},
    ]
    for data in wrong:
        assert list(check.iter_errors(data)), data


def test_the_sweep_files_of_the_examples_fit_the_schema() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    check = jsonschema.Draft202012Validator(schema.schema())
    files = [p for p in (ROOT / "examples").rglob("*.toml") if "command" in p.read_text(encoding="utf-8")]
    assert files
    for path in files:
        assert [e.message for e in check.iter_errors(read_file(str(path)))] == []


# ---------------------------------------------------------------- start of the program


@pytest.mark.parametrize(
    ("words", "absent"),
    [
        (["--help"], ["numpy", "rich", "msgspec", "tunewright.core.space"]),
        (
            ["ls"],
            ["rich", "tunewright.study", "tunewright.models", "tunewright.samplers", "asyncio", "scipy"],
        ),
        (
            ["best"],
            ["rich", "scipy", "asyncio", "tunewright.study", "tunewright.models", "tunewright.samplers"],
        ),
    ],
)
def test_commands_load_only_what_they_need(words: list[str], absent: list[str], tmp_path: Path) -> None:
    with tw.Study.open("s", {"x": tw.Float(0.0, 1.0)}, method="random", storage=tmp_path / "s.db") as study:
        study.run(lambda x: x, trials=2, progress="none")
    body = (
        "import resource, sys\nfrom tunewright.cli import main\n"
        f"try:\n    main({[*words, *(['--storage', 's.db'] if words != ['--help'] else [])]!r})\n"
        "except SystemExit as stop:\n    assert not stop.code, stop.code\n"
        f"print([m for m in {absent!r} if m in sys.modules], file=sys.stderr)\n"
        "print(sum(resource.getrusage(resource.RUSAGE_SELF)[:2]), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", body], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    loaded, seconds = done.stderr.splitlines()[-2:]
    assert loaded == "[]"
    assert float(seconds) < 2.0, "a tenth of that on a quiet machine"
