"""Hypothesis strategies for spaces; a new domain must appear here."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from tunewright.core.domains import Bool, Choice, Domain, Float, Int, Order
from tunewright.core.space import Space

finite = st.floats(-1e6, 1e6, allow_nan=False)


@st.composite
def floats(draw: st.DrawFn) -> Float:
    log = draw(st.booleans())
    low = draw(st.floats(1e-9, 1e3)) if log else draw(finite)
    wide = draw(st.floats(1e-3, 1e6))  # of its own size: below, 64-bit floats cannot tell the codes apart
    high = low * (1 + wide) if log else low + wide * max(1.0, abs(low))
    if not log and draw(st.booleans()):
        return Float(low, high, step=(high - low) / draw(st.integers(1, 20)))
    return Float(low, high, log=log)


@st.composite
def ints(draw: st.DrawFn) -> Int:
    log = draw(st.booleans())
    low = draw(st.integers(1 if log else -1000, 1000))
    width = draw(st.integers(1, 100_000))
    step = 1 if log else draw(st.integers(1, max(1, width // 3)))
    return Int(low, low + width, log=log, step=step)


plain = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-99, 99),
    finite,
    st.text(max_size=8).filter(lambda s: not any(0xD800 <= ord(c) <= 0xDFFF for c in s)),
)
options = st.lists(plain, min_size=1, max_size=6, unique_by=lambda v: (type(v).__name__, v))
orders = options.map(Order)
flat_choices = options.map(Choice)
leaves: st.SearchStrategy[Domain] = st.one_of(floats(), ints(), orders, flat_choices, st.just(Bool()))


@st.composite
def spaces(draw: st.DrawFn, depth: int = 2, prefix: str = "p") -> Space:
    """Nested spaces with conditions on earlier parameters."""
    domains: dict[str, Domain] = {}
    when: dict[str, dict[str, Any]] = {}
    for i in range(draw(st.integers(1, 4))):
        name = f"{prefix}{i}"
        if depth and draw(st.booleans()):
            branches = {
                f"b{k}": draw(st.one_of(st.none(), spaces(depth=depth - 1, prefix=f"{name}_{k}_")))
                for k in range(draw(st.integers(1, 3)))
            }
            domains[name] = Choice(branches)
        else:
            domains[name] = draw(leaves)
        parents = [n for n, d in domains.items() if n != name and isinstance(d, Choice | Order | Bool)]
        if parents and draw(st.booleans()):
            parent = draw(st.sampled_from(parents))
            known = domains[parent]
            assert isinstance(known, Choice | Order | Bool)
            when[name] = {
                parent: draw(st.lists(st.sampled_from(list(known.options)), min_size=1, max_size=3))
            }
    return Space(domains, when=when)
