"""``tunewright methods``: what is listed, and what tunes inside a run."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from tunewright import catalog
from tunewright.cli import main


def said(*arguments: str) -> str:
    found = CliRunner().invoke(main, ["methods", *arguments])
    assert found.exit_code == 0, found.output
    return found.output


def test_both_lists_name_every_method() -> None:
    outside, inside, removing = said(), said("--inside"), said("--removing")
    assert all(f"  {name} " in outside for name in catalog.METHODS)
    assert all(f"  {name} " in inside for name in catalog.INSIDE)
    assert all(f"  {name} " in removing for name in catalog.REMOVING)
    assert "--inside" in outside
    assert "--removing" in outside
    for question, answer in catalog.WHICH:
        assert question in inside
        assert answer in inside
    for question, answer in catalog.WHICH_REMOVING:
        assert question in removing
        assert answer in removing


def test_the_list_of_what_predicts_a_choice_names_every_method() -> None:
    predicting = said("--predicting")
    assert all(f"  {name} " in predicting for name in catalog.PREDICTING)
    assert "--predicting" in said()
    for question, answer in catalog.WHICH_PREDICTING:
        assert question in predicting
        assert answer in predicting
    rows = json.loads(said("--predicting", "--json"))
    assert [r["name"] for r in rows] == list(catalog.PREDICTING)
    assert all(r["paper"] and r["when"] and r["cost"] and r["predicts"] for r in rows)


def test_advice_on_predicting_names_what_there_is() -> None:
    words = {w.strip(",;:.()") for _, answer in catalog.WHICH_PREDICTING for w in answer.split()}
    assert len(words & set(catalog.PREDICTING)) >= 15
    assert not {w for w in words if "-" in w} - set(catalog.PREDICTING)


def test_every_parametrization_is_listed() -> None:
    from tunewright.scaling.rules import RULES

    assert set(RULES) - {"sp"} <= set(catalog.PREDICTING)


@pytest.mark.parametrize("name", catalog.PREDICTING)
def test_everything_that_predicts_a_choice_is_there_and_documented(name: str) -> None:
    pytest.importorskip("torch")
    entry = catalog.PREDICTING[name]
    entry.load()
    notes = sys.modules[entry.path.partition(":")[0]].__doc__ or ""
    for part in ("*Use when*", "*Do not use when*", "*Paper*", "*Differs*"):
        assert part in notes, f"{entry.path} does not say {part}"


def test_json_has_every_field() -> None:
    rows = json.loads(said("--inside", "--json"))
    assert [r["name"] for r in rows] == list(catalog.INSIDE)
    assert all(r["paper"] and r["when"] and r["cost"] and r["needs"] == "torch" for r in rows)


def test_json_of_what_removes_a_choice_has_every_field() -> None:
    rows = json.loads(said("--removing", "--json"))
    assert [r["name"] for r in rows] == list(catalog.REMOVING)
    assert all(r["paper"] and r["when"] and r["cost"] and r["removes"] for r in rows)


def test_one_that_removes_a_choice_is_described_in_full() -> None:
    pytest.importorskip("torch")
    text = said("momo-adam")
    assert "Schaipp" in text
    assert "removes" in text
    assert "from tunewright.optim.momo_adam import MoMoAdam" in text


def test_one_is_described_in_full() -> None:
    pytest.importorskip("torch")
    text = said("implicit")
    assert "Lorraine" in text
    assert "from tunewright.hypergrad.implicit import Implicit" in text


def test_an_unknown_one_is_refused() -> None:
    found = CliRunner().invoke(main, ["methods", "--inside", "magic"])
    assert found.exit_code != 0
    assert "implicit" in f"{found.output}{found.exception}"


def test_advice_names_what_there_is() -> None:
    words = {w.strip(",;:.()") for _, answer in catalog.WHICH for w in answer.split()}
    assert len(words & set(catalog.INSIDE)) >= 15
    assert not {w for w in words if "_" in w} - set(catalog.INSIDE)


def test_advice_against_choosing_names_what_there_is() -> None:
    words = {w.strip(",;:.()") for _, answer in catalog.WHICH_REMOVING for w in answer.split()}
    assert len(words & set(catalog.REMOVING)) >= 18
    ordinary = {"learning-rate"}
    assert not {w for w in words if "-" in w} - set(catalog.REMOVING) - ordinary


def test_every_optimizer_of_ours_is_listed() -> None:
    pytest.importorskip("torch")
    from tunewright.optim import names

    with_a_rate = {
        "core",
        "frugal",
        "innaprop",
    }  # parts for ``create`` that no package has; they remove nothing
    assert set(names("tunewright")) - set(catalog.REMOVING) <= with_a_rate


@pytest.mark.parametrize("name", catalog.REMOVING)
def test_everything_that_removes_a_choice_is_there_and_documented(name: str) -> None:
    pytest.importorskip("torch")
    entry = catalog.REMOVING[name]
    entry.load()
    notes = sys.modules[entry.path.partition(":")[0]].__doc__ or ""
    for part in ("*Use when*", "*Do not use when*", "*Paper*", "*Differs*", "*Cost*"):
        assert part in notes, f"{entry.path} does not say {part}"


@pytest.mark.parametrize("name", catalog.INSIDE)
def test_every_method_is_there_and_documented(name: str) -> None:
    pytest.importorskip("torch")
    found = catalog.INSIDE[name].load()
    assert found.__doc__
    notes = sys.modules[found.__module__].__doc__ or ""
    for part in ("Use when", "Do not use when", "Paper", "Differs", "Cost"):
        assert f"*{part}*" in notes, part


def test_listing_needs_no_torch() -> None:
    program = (
        "import sys; sys.modules['torch'] = None\n"
        "from click.testing import CliRunner\n"
        "from tunewright.cli import main\n"
        "found = CliRunner().invoke(main, ['methods', '--inside'])\n"
        "assert found.exit_code == 0, found.output\n"
        "assert 'implicit' in found.output\n"
        "missing = CliRunner().invoke(main, ['methods', 'implicit'])\n"
        "assert 'tunewright[torch]' in f'{missing.output}{missing.exception}'\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
