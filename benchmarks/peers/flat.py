"""A space as flat columns with values in simple terms, for tools that know no conditions."""

from __future__ import annotations

from typing import Any

import tunewright as tw


def flat(space: tw.Space) -> list[tuple[str, str, Any]]:
    """Each parameter as its key, kind (``float``, ``logfloat``, ``int``, ``logint`` or ``choice``) and range or options."""
    out: list[tuple[str, str, Any]] = []
    for column in space.columns:
        domain: Any = column.domain
        if isinstance(domain, tw.Float | tw.Int):
            kind = ("log" if domain.log else "") + ("float" if isinstance(domain, tw.Float) else "int")
            out.append((column.path, kind, (domain.low, domain.high)))
        elif isinstance(domain, tw.Order):
            out.append((column.path, "int", (0, len(domain.options) - 1)))
        else:
            options = [False, True] if isinstance(domain, tw.Bool) else list(domain.options)
            out.append((column.path, "choice", options))
    return out


def active(space: tw.Space, values: dict[str, Any]) -> dict[str, Any]:
    """The configuration that flat values stand for: parameters that are switched off left out."""
    config: dict[str, Any] = {}
    codes: list[float] = []
    for column in space.columns:
        on = all(codes[g.column] == codes[g.column] and g.open_one(codes[g.column]) for g in column.gates)
        value = values[column.path]
        if isinstance(column.domain, tw.Order):
            value = column.domain.options[int(value)]
        if on:
            config[column.name] = value
        codes.append(column.domain.coder()[0](value) if on else float("nan"))
    return config
