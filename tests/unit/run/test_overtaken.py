"""A process whose decisions were overtaken: what other threads see of its ledger meanwhile."""

from __future__ import annotations

from typing import Any

import pytest

import tunewright as tw
from tunewright.core.events import Noted
from tunewright.store.memory import MemoryStore


def test_ledger_never_shrinks_while_it_is_folded_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread tells its trial at that very moment, and looks it up without the lock."""
    store = MemoryStore()
    study = tw.Study.open("s", {"x": tw.Float(0, 1)}, method="random", storage=store)
    for _ in range(3):
        study.ask()
    decide, read = store.decide, store.read
    seen: list[int] = []

    def overtaken(key: int, after: int, choose: Any, **more: Any) -> Any:
        choose([], [])
        store.append(key, [Noted("other", {})], worker="external/other")
        return decide(key, after, choose, **more)

    def reading(*arguments: Any, **more: Any) -> Any:
        seen.append(len(study.session.ledger.trials))
        return read(*arguments, **more)

    with monkeypatch.context() as patch:
        patch.setattr(store, "decide", overtaken)
        patch.setattr(store, "read", reading)
        found = study.ask_many(2)
    assert [a.number for a in found] == [3, 4]
    assert seen
    assert min(seen) >= 3
