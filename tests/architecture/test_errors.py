"""The exception tree: one root, one code each, drawn in the docstring, able to cross processes."""

from __future__ import annotations

import inspect
import pickle
import re
import sys
from pathlib import Path

import house
import pytest

from tunewright import errors

sys.path.insert(0, str(house.ROOT / "docs" / "_ext"))
import errors_page

RAISABLE = [
    thing
    for _, thing in inspect.getmembers(errors, inspect.isclass)
    if issubclass(thing, BaseException) and thing.__module__ == errors.__name__
]
TREE = [kind for kind in RAISABLE if issubclass(kind, errors.TunewrightError)]
by_name = pytest.mark.parametrize("kind", TREE, ids=lambda kind: kind.__name__)


def test_one_root_and_unique_codes() -> None:
    assert TREE == RAISABLE, "every error of the package is a TunewrightError"
    codes = [kind.code for kind in TREE]
    assert len(set(codes)) == len(codes), "two errors share a code"
    assert all(re.fullmatch(r"TW\d{3}", code) for code in codes)


@by_name
def test_code_is_its_own(kind: type[errors.TunewrightError]) -> None:
    assert "code" in vars(kind), f"{kind.__name__} inherits its code"


@by_name
def test_survives_pickling(kind: type[errors.TunewrightError]) -> None:
    error = kind("Float needs low < high; got low=1, high=0. Swap the bounds.")
    error.add_note("raised in a worker")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == str(error)
    assert again.args == error.args
    assert again.__notes__ == ["raised in a worker"]


@by_name
def test_shows_its_message_as_it_is(kind: type[errors.TunewrightError]) -> None:
    """KeyError would show the repr: quotes around the sentence."""
    assert str(kind("No study 'a'.")) == "No study 'a'."
    assert str(kind()) == kind.__name__


@by_name
def test_is_documented_and_drawn(kind: type[errors.TunewrightError]) -> None:
    assert vars(kind)["__doc__"]
    assert kind.__name__ in (errors.__doc__ or "")


def test_docs_page_covers_every_code() -> None:
    page = errors_page.render()
    for kind in TREE:
        assert f"({kind.code.lower()})=" in page
        assert kind.__name__ in page


def test_docs_page_refuses_an_unknown_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(errors_page.REMEDIES, "TW999", "Nothing raises this.")
    with pytest.raises(ValueError, match="TW999"):
        errors_page.render()


@house.every(list(house.python_files("src")))
def test_package_raises_its_own_errors_only(path: Path) -> None:
    """A bare Exception or RuntimeError has no code and no page."""
    found = re.findall(r"raise (Exception|RuntimeError|BaseException)\b", path.read_text(encoding="utf-8"))
    assert not found, f"{house.name(path)} raises {found}"
