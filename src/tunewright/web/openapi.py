"""The description of the interface, made from the table of addresses and the types of its bodies."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

from tunewright import __version__
from tunewright.store import wire
from tunewright.web.table import TABLE, Route

_REF = "#/components/schemas/{name}"
_WORDS = {
    200: "Done.", 201: "Made.", 204: "Done; nothing to say.",
    304: "Nothing new for who has the answer with this mark.",
    400: "The request ended too early, or its query cannot be read.",
    401: "A token is needed.", 403: "The token may not do this, or a web page of another site sent the request.",
    404: "There is no such study, trial or file, or none for this token.",
    409: "Somebody else was first: the name is taken, the log went on, or the attempt was taken over.",
    413: "The body is too large.", 415: "The body is not JSON.", 421: "The server does not answer to this Host.",
    422: "The values cannot be used; the message says why.", 429: "Too many requests.",
    500: "The server or a method failed.", 501: "The server lacks a package that the method needs.",
    503: "The server is busy or closing, or its store cannot be reached; try again.", 507: "The server's disk is full.",
}  # fmt: skip
_FILE = r"^[A-Za-z0-9_][A-Za-z0-9_-]{0,79}\.[0-9a-f]{16}$"
_PARTS = {
    "study": ({"type": "string", "minLength": 1, "maxLength": 256}, "Name of the study, or @ and its key."),
    "number": ({"type": "integer", "minimum": 0, "maximum": 2**53}, "Number of the trial."),
    "file": ({"type": "string", "pattern": _FILE}, "Name of the file, with the digest of its content."),
    "kind": ({"type": "string", "maxLength": 40}, "Kind of chart."),
}  # fmt: skip


@lru_cache(maxsize=1)
def document() -> dict[str, Any]:
    """The description, as OpenAPI 3.1."""
    kinds = _kinds()
    _, components = msgspec.json.schema_components(kinds, ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for route in TABLE:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Tunewright", "version": __version__, "description": "Studies over HTTP."},
        "paths": paths,
        "components": {
            "schemas": _plain(components),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _kinds() -> list[Any]:
    """Every type that is sent as JSON."""
    given = [kind for route in TABLE for kind in (route.body, route.answer)]
    found: list[Any] = [wire.ErrorAnswer]
    found += [kind for kind in given if kind not in (None, bytes, str) and kind not in found]
    return found


def _operation(route: Route) -> dict[str, Any]:
    names = [part[1:-1] for part in route.path.split("/") if part.startswith("{")]
    parameters = [
        {"name": n, "in": "path", "required": True, "schema": _PARTS[n][0], "description": _PARTS[n][1]}
        for n in names
    ]
    parameters += [
        {"name": q.name, "in": "query", "required": False, "schema": q.schema, "description": q.what}
        for q in route.query
    ]
    operation: dict[str, Any] = {
        "operationId": route.handler.__name__ if route.method != "HEAD" else f"{route.handler.__name__}_head",
        "summary": route.what,
        "parameters": parameters,
        "responses": {str(status): _response(route, status) for status in statuses(route)},
    }
    if route.scope is not None:
        operation["security"] = [{"token": []}]
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": _content(route.body)}
    return operation


def statuses(route: Route) -> list[int]:
    """Every status that a route may answer with."""
    found = {route.status, 421, 500, 503, *route.refusals}
    if route.scope is not None:
        found |= {401, 429}
        found |= {403} if route.scope != "read" or route.method not in ("GET", "HEAD") else set()
    if route.method not in ("GET", "HEAD"):
        found |= {403, 415}
    if "{" in route.path:
        found.add(404)
    if route.body is not None:
        found |= {400, 413}
        found |= {422} if route.body is not bytes else set()
    if route.query:
        found |= {400, 422}
    if route.status == 201:
        found.add(200)
    return sorted(found)


def _response(route: Route, status: int) -> dict[str, Any]:
    response: dict[str, Any] = {"description": _WORDS[status]}
    if status in (200, 201) and route.kinds:
        response["content"] = {
            kind: {"schema": {"type": "string", "format": "binary"}} for kind in route.kinds
        }
    elif status in (200, 201) and route.answer is not None:
        response["content"] = _content(route.answer)
    elif status >= 400 and route.method != "HEAD":
        response["content"] = _content(
            dict[str, str] if status == 503 and route.scope is None else wire.ErrorAnswer
        )
    return response


def _content(kind: Any) -> dict[str, Any]:
    if kind is bytes:
        return {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
    if kind is str:
        return {"text/plain": {"schema": {"type": "string"}}}
    (schema,), _ = msgspec.json.schema_components([kind], ref_template=_REF)
    content: dict[str, Any] = {"application/json": {"schema": _plain(schema)}}
    if kind is wire.RecordsAnswer:
        content["text/event-stream"] = {"schema": {"type": "string"}}
    return content


def _plain(schema: Any) -> Any:
    """A schema in which a pair of equals is a list of two, which every reader understands."""
    if isinstance(schema, list | tuple):
        return [_plain(x) for x in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _plain(x) for name, x in schema.items()}
    parts = found.get("prefixItems")
    if parts and "maxItems" in found and all(part == parts[0] for part in parts):
        del found["prefixItems"]
        found["items"] = parts[0]
    return found
