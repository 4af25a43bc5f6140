"""The page of questions quotes messages; each is what a user really gets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tunewright as tw
from tunewright.store.memory import MemoryStore

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "guides" / "questions.md").read_text(encoding="utf-8")
SPACE = tw.Space(lr=tw.Float(1e-4, 1e-1, log=True), opt=tw.Choice(["adam", "sgd"]))
WIDER = tw.Space(lr=tw.Float(1e-5, 1e-1, log=True), opt=tw.Choice(["adam", "sgd", "lion"]))


def returning(value: Any) -> Callable[[], Any]:
    def run() -> Any:
        study = tw.Study.open("s", SPACE, minimize="loss", storage="memory")
        return study.run(lambda trial: value, trials=20, progress="none")

    return run


def again(**how: Any) -> Callable[[], Any]:
    def run() -> Any:
        store = MemoryStore()
        study = tw.Study.open("c", SPACE, minimize="loss", storage=store)
        study.run(lambda trial: trial["lr"], trials=3, progress="none")
        return tw.Study.open("c", **{"space": SPACE, "storage": store, **how})

    return run


@pytest.mark.parametrize(
    "mistake",
    [
        returning(float("nan")),
        lambda: tw.Float(1.0, 0.1),
        lambda: tw.Float(0.0, 1.0, log=True),
        again(space=WIDER, on_change="error"),
        again(maximize="loss"),
        again(exist="error"),
        returning({"los": 1.0}),
        returning("abc"),
        returning(None),
        returning((1.0, 2.0)),
    ],
    ids=["nan", "bounds", "log", "space", "goal", "exists", "metric", "text", "none", "tuple"],
)
def test_the_quoted_message_is_the_one_given(mistake: Callable[[], Any]) -> None:
    with pytest.raises(tw.TunewrightError) as caught:
        mistake()
    for line in str(caught.value).splitlines():
        assert line in PAGE, line
