"""Writes the reference of the records of a log from ``tunewright.core.events``."""

from __future__ import annotations

import inspect
import re
from typing import Any, get_args

import msgspec

from tunewright.core import events

HEADER = """# Records of the log

What `tunewright export STUDY --format log` writes, one JSON object per line: `seq`, the position, dense from 1; `at`, the
wall-clock time of the append, for display only; `worker`, who appended it; `kind`, and the fields of that kind. A field
that has its default is left out. How the records belong together is under [the log](../internals/log.md).

The format is kept readable from the first release on: new fields have defaults, and old records are brought up to date
while they are read. This page is generated from `tunewright.core.events`.
"""
_FIELD = re.compile(r"^    (\w+): (.*?)(?=\n    \w+: |\Z)", re.MULTILINE | re.DOTALL)


def _type(kind: Any) -> str:
    text = inspect.formatannotation(kind) if isinstance(kind, type) else str(kind)
    return text.replace("typing.", "").replace("|", "\\|")


def _section(kind: Any) -> str:
    info = msgspec.inspect.type_info(kind)
    doc = inspect.getdoc(kind) or ""
    text, _, attributes = doc.partition("\nAttributes:\n")
    said = {name: " ".join(about.split()) for name, about in _FIELD.findall(attributes)}
    lines = [
        f"## `{kind.__struct_config__.tag}`",
        "",
        text.strip(),
        "",
        "| field | type | default | |",
        "| --- | --- | --- | --- |",
    ]
    hints = inspect.get_annotations(kind, eval_str=True)
    for field in info.fields:  # type: ignore[attr-defined]
        default = "" if field.required else f"`{field.default!r}`"
        lines.append(
            f"| `{field.name}` | `{_type(hints[field.name])}` | {default} | {said.get(field.name, '')} |"
        )
    return "\n".join(lines) + "\n"


def render() -> str:
    """The page as MyST Markdown, one section per kind of record."""
    return "\n".join([HEADER, *(_section(kind) for kind in get_args(events.Event))])
