"""What ``pip install tunewright`` brings with it."""

from __future__ import annotations

import tomllib
from importlib import metadata

import house
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

MOST = 19
PROJECT = tomllib.loads((house.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def closure(wanted: list[str]) -> set[str]:
    """Names of every distribution that these requirements pull in on this Python, from installed metadata."""
    found: set[str] = set()
    todo = [Requirement(line) for line in wanted]
    while todo:
        requirement = todo.pop()
        extras = requirement.extras or {""}
        if requirement.marker and not any(requirement.marker.evaluate({"extra": extra}) for extra in extras):
            continue
        name = canonicalize_name(requirement.name)
        if name in found:
            continue
        found.add(name)
        for line in metadata.requires(name) or []:
            child = Requirement(line)
            if child.marker is None or any(child.marker.evaluate({"extra": extra}) for extra in extras):
                todo.append(child)
    return found


def test_default_install_is_small() -> None:
    names = closure(PROJECT["dependencies"])
    assert {"numpy", "scipy", "mdurl", "pygments"} <= names, "the closure was not followed"
    assert len(names) <= MOST, sorted(names)


def test_no_upper_pins() -> None:
    groups = [PROJECT["dependencies"], *PROJECT["optional-dependencies"].values()]
    for line in (line for group in groups for line in group):
        operators = {part.operator for part in Requirement(line).specifier}
        assert operators <= {">=", "!="}, f"'{line}' pins more than a lower bound"


def test_no_extra_is_forgotten_in_all() -> None:
    extras = PROJECT["optional-dependencies"]
    (everything,) = extras["all"]
    assert Requirement(everything).extras == set(extras) - {"all", "dev", "docs", "bench"}
