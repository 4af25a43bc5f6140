"""The command line without running anything: help, errors, descriptions of what to run."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import click
import pytest

from tunewright import errors
from tunewright.cli import main
from tunewright.cli.common import assignments
from tunewright.cli.exits import code_of, guarded
from tunewright.cli.explain import REMEDIES, entry, kinds
from tunewright.cli.sweep import load_function, read_space, sweep_of
from tunewright.core.domains import Choice, Float
from tunewright.core.space import Space
from tunewright.errors import ConfigError, SpaceError

CONTEXT = click.Context(main, info_name="tunewright")
COMMANDS = main.list_commands(CONTEXT)


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(args))
    return int(stop.value.code or 0)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_loads_and_has_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = main.get_command(CONTEXT, name)
    assert command is not None
    assert command.name == name
    assert run(name, "--help") == 0
    helps = [capsys.readouterr().out]
    if isinstance(command, click.Group):
        inner = command.list_commands(CONTEXT)
        assert inner
        assert all(run(name, word, "--help") == 0 for word in inner)
        helps = capsys.readouterr().out.split("Usage:")[1:]
        assert len(helps) == len(inner)
    assert all("--debug" in text and "--json" in text for text in helps)


def test_help_names_every_command_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--help") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert all(f" {name} " in out for name in COMMANDS)
    page = Path(__file__).parents[3] / "docs" / "concepts" / "exit-codes.md"
    codes = [line.split("|")[1].strip() for line in page.read_text().splitlines() if line.startswith("| ")][
        2:
    ]
    assert codes == ["0", "1", "2", "3", "4", "5", "6", "7", "129", "130", "143"]
    assert all(code in out for code in codes)


def test_help_is_quick_and_loads_nothing_heavy() -> None:
    code = """
        import resource, sys
        from tunewright.cli import main
        try:
            main(["--help"])
        except SystemExit:
            pass
        spent = resource.getrusage(resource.RUSAGE_SELF)
        heavy = sorted({"numpy", "rich", "sqlite3", "msgspec", "asyncio"} & set(sys.modules))
        print(heavy, spent.ru_utime + spent.ru_stime, file=sys.stderr)
    """
    found = []
    for _ in range(3):
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            capture_output=True,
            text=True,
            check=True,
            env={k: v for k, v in os.environ.items() if "COV" not in k},
        )
        heavy, _, spent = done.stderr.strip().rpartition(" ")
        assert heavy == "[]"
        found.append(float(spent))
    assert min(found) < 0.15


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.SpaceError("a"), 2),
        (errors.SpaceConflict("a"), 6),
        (errors.ConfigError("a"), 2),
        (errors.UnsupportedError("a"), 2),
        (errors.MissingExtra("a"), 2),
        (errors.StudyExists("a"), 2),
        (errors.StudyMissing("a"), 2),
        (errors.StoreUnavailable("a"), 5),
        (errors.SchemaError("a"), 5),
        (errors.LeaseLost("a"), 5),
        (errors.TooManyFailures("a"), 4),
        (errors.ReplayMismatch("a"), 1),
        (errors.AlgorithmError("a"), 1),
    ],
)
def test_errors_are_one_sentence_with_a_code(
    error: errors.TunewrightError, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    def body() -> None:
        raise error

    assert code_of(error) == guarded(body, debug=False) == code
    assert capsys.readouterr().err == f"error[{error.code}]: a\n"
    assert guarded(body, debug=True) == code
    assert "Traceback" in capsys.readouterr().err


def test_what_is_unforeseen_is_said_in_one_sentence_too(capsys: pytest.CaptureFixture[str]) -> None:
    def body() -> None:
        raise ZeroDivisionError("by\nzero")

    assert guarded(body, debug=False) == 1
    assert capsys.readouterr().err.count("\n") == 1

    def interrupted() -> None:
        raise KeyboardInterrupt

    assert guarded(interrupted, debug=False) == 130


def test_explain_knows_every_code(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(kinds()) == set(REMEDIES)
    for code, kind in kinds().items():
        assert entry(code.lower())["name"] == kind.__name__
    assert entry("StudyExists")["code"] == "TW041"
    assert run("explain", "TW41") == 2
    assert "Did you mean TW" in capsys.readouterr().err


def test_assignments() -> None:
    assert assignments(["a=1", "b=0.5", "c=x=y", "d=true", "e=", 'f="1"']) == {
        "a": 1, "b": 0.5, "c": "x=y", "d": True, "e": "", "f": "1",
    }  # fmt: skip
    assert str(assignments(["a=nan", "b=-inf", "c=nano"])) == "{'a': nan, 'b': -inf, 'c': 'nano'}"
    with pytest.raises(ConfigError, match="name=value"):
        assignments(["a"])


@pytest.mark.parametrize(
    "text",
    [
        '{"lr": {"type": "float", "low": 0.1, "high": 1.0, "log": true}, "opt": ["a", "b"]}',
        "lr=log 0.1..1.0; opt=a|b",
        "file.json",
        "file.toml",
    ],
)
def test_spaces_in_every_form(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file.json").write_text('{"lr": {"log": [0.1, 1.0]}, "opt": {"choice": ["a", "b"]}}')
    Path("file.toml").write_text('[space]\nlr = "log 0.1..1.0"\nopt = ["a", "b"]\n')
    assert read_space(text) == Space(lr=Float(0.1, 1.0, log=True), opt=Choice(["a", "b"]))


@pytest.mark.parametrize("text", ["", "nonsense", "{broken", "missing.json", "missing.toml", "[1]"])
def test_spaces_that_cannot_be_read(text: str) -> None:
    with pytest.raises(ConfigError):
        read_space(text)


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text(
        'name = "n"\ncommand = "python t.py {x}"\nminimize = "loss"\n[space]\nx = "0.0..1.0"\n'
        "[run]\ntrials = 5\nworkers = 2\n"
    )
    sweep = sweep_of([str(file)], {"trials": "9", "minimize": (), "name": None})
    assert (sweep.name, sweep.limits) == ("n", {"trials": "9", "workers": 2})
    assert sweep.study == {"minimize": "loss"}
    assert sweep.argv == ["python", "t.py", "{x}"]
    file.write_text('comand = "x"\n')
    with pytest.raises(ConfigError, match="Did you mean 'command'"):
        sweep_of([str(file)], {})


@pytest.mark.parametrize(
    ("words", "given"),
    [((), {}), (("a.py:f",), {"command": "x {a:1..2}"}), (("t", "{a:1..2}"), {"space": "a=1..2"})],
)
def test_it_must_be_clear_what_to_tune(words: Any, given: Any) -> None:
    with pytest.raises(ConfigError):
        sweep_of(words, given)


def test_names_of_studies_come_from_scripts() -> None:
    assert sweep_of(["python", "src/train.py", "{x:1..2}"], {}).name == "train"
    assert sweep_of(["train.py:main"], {}).name == "main"


def test_bad_declarations_in_a_command() -> None:
    with pytest.raises(SpaceError, match="low < high"):
        sweep_of(["t", "{x:2..1}"], {})


@pytest.mark.parametrize(
    "target", ["missing.py:f", "no_such_module_here:f", "tunewright.errors:nothing", "x", ":f", "x:"]
)
def test_functions_that_are_not_there(target: str) -> None:
    with pytest.raises(ConfigError):
        load_function(target)
