"""The public names: few, documented, and all there."""

from __future__ import annotations

import inspect
from types import ModuleType

import pytest

import tunewright

MOST = 40
NAMES: list[str] = sorted(getattr(tunewright, "__all__", ()))


def test_at_most_forty_names() -> None:
    assert 0 < len(NAMES) <= MOST
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_public_name_is_there_and_documented(name: str) -> None:
    thing = getattr(tunewright, name)
    if name.startswith("__") or not (callable(thing) or isinstance(thing, ModuleType)):
        return
    doc = inspect.getdoc(thing)
    assert doc, f"tunewright.{name} has no docstring"
    assert not doc.startswith(f"{name}("), (
        f"tunewright.{name} has only the docstring that dataclasses generate"
    )


def test_dir_shows_every_public_name() -> None:
    """Lazily loaded names have to appear in completion too."""
    assert set(NAMES) <= set(dir(tunewright))


def test_unknown_name_raises_attribute_error() -> None:
    name = "no_such_name"
    with pytest.raises(AttributeError, match=name):
        getattr(tunewright, name)
