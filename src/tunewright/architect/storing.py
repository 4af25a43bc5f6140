"""Searches and architectures as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tunewright.architect.language import (
    DOMAINS,
    AnyOrder,
    Module,
    Optional,
    Or,
    Parallel,
    Part,
    Repeat,
    Residual,
    Search,
    Sequence,
    search_of,
)
from tunewright.core.domains import domain_from_dict
from tunewright.errors import SpaceError


def to_dict(search: Part) -> dict[str, Any]:
    """The JSON form of a search, or of a specified architecture."""
    part = search_of(search)
    out: dict[str, Any]
    match part:
        case Module():
            out = {"module": part.kind}
            if part.settings:
                out["settings"] = {
                    k: v.to_dict() if isinstance(v, DOMAINS) else v for k, v in part.settings.items()
                }
        case Sequence() | Or() | AnyOrder() | Parallel():
            out = {_TAGS[type(part)]: [to_dict(p) for p in part.parts]}
            if isinstance(part, Parallel):
                out["merge"] = part.merge
        case Optional() | Residual() | Repeat():
            out = {_TAGS[type(part)]: to_dict(part.part)}
            if isinstance(part, Repeat):
                out |= {"counts": list(part.counts), "tied": part.tied}
    return out | ({"name": part.name} if part.name else {})


_TAGS: dict[type, str] = {
    Sequence: "sequence",
    Or: "or",
    AnyOrder: "any_order",
    Parallel: "parallel",
    Optional: "optional",
    Residual: "residual",
    Repeat: "repeat",
}


def from_dict(data: Mapping[str, Any]) -> Search:
    """Rebuilds a search from its JSON form.

    Raises:
        SpaceError: If the data does not describe one.
    """
    try:
        fields = dict(data)
        name = fields.pop("name", "")
        if "module" in fields:
            settings = {
                k: domain_from_dict(v) if isinstance(v, Mapping) else v
                for k, v in fields.pop("settings", {}).items()
            }
            made: Search = Module(fields.pop("module"), name=name, **settings)
        else:
            tag, kind = next((t, k) for k, t in _TAGS.items() if t in fields)
            inside = fields.pop(tag)
            made = (
                kind(*map(from_dict, inside), name=name, **fields)
                if isinstance(inside, list)
                else kind(from_dict(inside), name=name, **fields)
            )
            fields = {}
    except (AttributeError, KeyError, StopIteration, TypeError, ValueError) as error:
        if isinstance(error, SpaceError):
            raise
        raise SpaceError(
            f"A stored architecture must be a mapping that names its parts; got {data!r:.200}. Store it with to_dict."
        ) from None
    if fields:
        raise SpaceError(
            f"A stored module has kind, name and settings; got {sorted(fields)} too. Remove them."
        )
    return made
