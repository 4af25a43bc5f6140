"""Writes the reference of the command line by walking the commands themselves."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

HEADER = """# Command line

The words are those of the Python interface. Tables go to standard output and messages to standard error, so pipes
stay clean; reading commands take `--json`. What the process returns is listed under
[exit codes](../concepts/exit-codes.md). This page is generated from the commands.
"""


def _section(path: str, command: Any) -> str:
    import click

    context = click.Context(command, info_name=path, terminal_width=100, max_content_width=100)
    return f"## `{path}`\n\n```text\n{command.get_help(context).rstrip()}\n```\n"


def render() -> str:
    """The page as MyST Markdown: the help of every command, nested ones too."""
    parts = [HEADER]
    if importlib.util.find_spec("tunewright.cli") is None:
        return HEADER
    main = getattr(importlib.import_module("tunewright.cli"), "main", None)
    if main is None:
        return HEADER
    import click

    todo: list[tuple[str, Any]] = [("tunewright", main)]
    while todo:
        path, command = todo.pop(0)
        parts.append(_section(path, command))
        if isinstance(command, click.Group):
            context = click.Context(command, info_name=path)
            names = command.list_commands(context)
            children = [(name, command.get_command(context, name)) for name in names]
            todo += [(f"{path} {name}", child) for name, child in children if child and not child.hidden]
    return "\n".join(parts)
