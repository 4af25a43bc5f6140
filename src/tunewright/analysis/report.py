"""A study as one HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple


class Section(NamedTuple):
    """Something to say above the charts: a title, paragraphs, and a table."""

    title: str
    paragraphs: tuple[str, ...] = ()
    head: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()


def html(study: Any, extra: Sequence[Section] = ()) -> str:
    """The page."""
    parts = [
        f"<h2>{escape(s.title)}</h2>" + "".join(f"<p>{escape(p)}</p>" for p in s.paragraphs) for s in extra
    ]
    return f"<!doctype html><title>{escape(study.name)}</title>" + "".join(parts)
