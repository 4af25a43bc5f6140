"""A small study for the tests of the facade."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tunewright as tw

SPACE = tw.Space(x=tw.Float(0, 1), n=tw.Int(1, 5))


def quiet(**more: Any) -> dict[str, Any]:
    """Arguments of a run that shows nothing."""
    return {"progress": "none", **more}


def train(x: float, n: int) -> float:
    """A loss with its best at x = 0.3 and n = 1."""
    return (x - 0.3) ** 2 + n


def open_(path: Path | None = None, name: str = "s", **more: Any) -> tw.Study:
    """A study in memory, or in a file in a folder."""
    more.setdefault("space", SPACE)
    more.setdefault("method", "random")
    return tw.Study.open(name, storage="memory" if path is None else str(path / "studies.db"), **more)
