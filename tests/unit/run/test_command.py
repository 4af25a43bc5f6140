"""Reading metrics out of what scripts print."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tunewright.errors import ConfigError, RunError
from tunewright.run.command import Meter, read_line, reader_of, script
from tunewright.run.messages import Answer, FromWorker, Report, Segment
from tunewright.run.worker import Attempt


def attempt(
    until: int | None = None, number: int = 0, answers: list[Answer] | None = None
) -> tuple[Attempt, list[Any]]:
    said: list[Any] = []

    def channel(message: FromWorker) -> Answer:
        said.append(message)
        return answers.pop(0) if answers else Answer()

    segment = Segment(number, 1, {}, [("loss", "minimize")], "unused", until=until, high=until)
    return Attempt(segment, channel), said


def meter(
    text: str, metrics: str = "stdout", until: int | None = None, number: int = 0
) -> tuple[Meter, list[Any]]:
    trial, said = attempt(until, number)
    made = Meter(trial, reader_of(metrics))
    for start in range(0, len(text), 7):
        made.feed(text[start : start + 7].encode())
    made.close()
    return made, [(m.step, m.metrics) for m in said if isinstance(m, Report)]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("val_acc=0.93", (None, {"val_acc": 0.93})),
        ("val/acc: 9.3e-1, loss = .5", (None, {"val/acc": 0.93, "loss": 0.5})),
        ("Epoch 3/10 - loss: 0.25", (3, {"loss": 0.25})),
        ("[step 12] loss=nan", (12, {"loss": math.nan})),
        ("step=4 epoch=1 loss=-inf", (4, {"loss": -math.inf})),
        ('{"epoch": 2, "loss": 0.5, "note": "x", "val": {"acc": 1}, "ok": true}', (2, {"loss": 0.5, "val.acc": 1.0})),
        ("2026-01-01 12:30:01 starting", None),
        ("version=1.2.3 at http://a.b:80", None),
        ("nothing here", None),
        ("{not json", None),
    ],
)  # fmt: skip
def test_lines(line: str, found: Any) -> None:
    got = read_line(line)
    assert repr(got) == repr(found)


def test_steps_are_reported_with_what_came_before_them() -> None:
    made, said = meter("epoch 1\ntrain_loss=3\nloss=2\nepoch 2\rloss=1")
    assert said == [(1, {"train_loss": 3.0, "loss": 2.0}), (2, {"train_loss": 3.0, "loss": 1.0})]
    assert made.result() == {"train_loss": 3.0, "loss": 1.0}


def test_steps_from_0_become_steps_done() -> None:
    assert meter("epoch=0 loss=3\nepoch=1 loss=2\n")[1] == [(1, {"loss": 3.0}), (2, {"loss": 2.0})]


def test_lines_count_where_a_study_has_steps_and_the_script_names_none() -> None:
    assert meter("loss=3\nloss=2\n", until=5)[1] == [(1, {"loss": 3.0}), (2, {"loss": 2.0})]
    assert meter("loss=3\nloss=2\n")[1] == [], "without steps only the last value counts"


def test_steps_that_do_not_grow_are_passed_over() -> None:
    assert meter("epoch=1 loss=3\nepoch=1 loss=2\nepoch=2 loss=1\n")[1] == [
        (1, {"loss": 3.0}),
        (2, {"loss": 1.0}),
    ]


def test_patterns() -> None:
    made, said = meter("E 1 L 0.5\nE 2 L bad\nE 3 L 0.25\n", r"regex:E (?P<epoch>\d+) L (?P<loss>\S+)")
    assert said == [(1, {"loss": 0.5}), (3, {"loss": 0.25})]
    assert made.result() == {"loss": 0.25}


@pytest.mark.parametrize("metrics", ["", "xml", "jsonl:", "regex:(", "regex:loss (.*)"])
def test_sources_that_cannot_be_used(metrics: str) -> None:
    with pytest.raises(ConfigError):
        reader_of(metrics)


def test_a_verdict_ends_the_script_but_not_after_the_last_step() -> None:
    trial, _ = attempt(2, answers=[Answer(), Answer()])
    made = Meter(trial, read_line)
    made.line("epoch=1 loss=1")
    made.line("epoch=2 loss=1")
    assert not made.ended
    trial, said = attempt(9, answers=[Answer("stop")])
    made = Meter(trial, read_line)
    made.line("epoch=1 loss=1")
    made.line("epoch=2 loss=1")
    assert made.ended
    assert len(said) == 1


def test_a_missing_objective_is_everybodys_mistake_at_first_and_the_trials_own_later() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'val_loss'"):
        meter("val_loss=3\n")[0].result()
    with pytest.raises(RunError, match="no metric"):
        meter("", number=30)[0].result()


def test_a_program_that_is_not_there_is_said_before_anything_runs() -> None:
    with pytest.raises(ConfigError, match="no-such-program"):
        script(["no-such-program", "{x}"])


@pytest.mark.parametrize(
    "line",
    [
        "[" * 5000,
        '{"a":' * 5000,
        '{"a":' * 900 + "1" + "}" * 900,
        '{"epoch": 1e300, "loss": 1.0}',
        '{"epoch": 99999999999999999999, "loss": 1.0}',
        '{"loss": 1.0, "big": 1' + "0" * 400 + "}",
        '{"loss": 1.0, "bigger": 1' + "0" * 5000 + "}",
        "step " + "9" * 5000 + " loss=1.0",
        '{"loss": 1.0, "' + "n" * 300 + '": 2.0, "a\\u001bb": 3.0, "\\ud800": 4.0}',
        '{"loss": NaN, "x": Infinity}',
        "\x00\x1b[31mloss=1.0\x1b[0m",
    ],
    ids=range(11),
)
def test_no_line_of_a_script_can_break_its_trial(line: str) -> None:
    said = read_line(line)
    if said is not None:
        step, values = said
        assert step is None or abs(step) <= 2**53
        assert all(isinstance(v, float) for v in values.values())
    trial, _ = attempt()
    made = Meter(trial, read_line)
    made.feed(line.encode("utf-8", "replace") + b"\n")
    made.feed(b"loss=0.5\n")
    made.close()
    assert made.latest["loss"] == 0.5
    assert all(name.isprintable() and len(name) <= 256 for name in made.latest)
