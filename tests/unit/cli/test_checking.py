"""``doctor`` tells decisions that were taken again from those that follow by rule."""

from __future__ import annotations

import tunewright as tw
from tunewright.cli.health import decisions


def test_decisions_by_rule_are_counted_apart() -> None:
    study = tw.Study.open("s", {"x": tw.Float(0, 1)}, method="random", storage="memory")
    study.run(lambda x: x, trials=2, progress="none")
    assert decisions(study).text == "2 taken again, the same"
    study.enqueue({"x": 0.5})
    study.run(lambda x: x, trials=3, progress="none")
    assert decisions(study).text == "2 taken again, the same; 1 follow by rule"
