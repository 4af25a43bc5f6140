"""Writes the reference of the server's interface from its own description."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

HEADER = """# Server

Every address of [`tunewright serve`](../guides/server.md), the scope that a token needs, and the fields of the bodies. A
server gives the same as OpenAPI 3.1 under `GET /api/v1/openapi.json`. This page is generated from that description.
"""


SHOWN = ("Body", "Answer", "NewStudy")


def _kind(schema: dict[str, Any]) -> str:
    """A type in a few words."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})" if name.endswith(SHOWN) else f"`{name}`"
    if "anyOf" in schema:
        return " or ".join(_kind(s) for s in schema["anyOf"] if s.get("type") != "null")
    if "enum" in schema:
        return ", ".join(f"`{value}`" for value in schema["enum"])
    if schema.get("type") == "array":
        inner = _kind(schema["items"]) if isinstance(schema.get("items"), dict) else "values"
        return f"list of {inner}"
    return str(schema.get("type", "anything"))


def _fields(name: str, schema: dict[str, Any]) -> str:
    """The fields of one body."""
    about = schema.get("description", "").partition("\n")[0].replace("``", "`")
    rows = [
        f"| `{field}` | {_kind(inner)} | {'yes' if field in schema.get('required', ()) else ''} |"
        for field, inner in schema.get("properties", {}).items()
    ]
    table = "\n".join(["| field | type | required |", "| --- | --- | --- |", *rows]) if rows else ""
    return f"### {name}\n\n{about}\n\n{table}\n"


def render() -> str:
    """The page as MyST Markdown."""
    if importlib.util.find_spec("tunewright.web") is None:
        return HEADER
    document = importlib.import_module("tunewright.web.openapi").document()
    table = importlib.import_module("tunewright.web.table").TABLE
    lines = [HEADER, "| address | scope | what |", "| --- | --- | --- |"]
    lines += [f"| `{r.method} {r.path}` | {r.scope or 'none'} | {r.what} |" for r in table]
    schemas = document["components"]["schemas"]
    bodies = [_fields(n, s) for n, s in sorted(schemas.items()) if n.endswith(SHOWN)]
    return "\n".join(lines) + "\n\n## Bodies\n\n" + "\n".join(bodies)
