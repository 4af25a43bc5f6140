"""The segment of a trial that climbs through sizes, as one training after the other of one size each.

A training function sees a segment of one size: its own steps, its own checkpoint, and nothing of the sizes before. Here
steps become points of the study's scale on their way out. At the end of a size the trial needs no weights to go on, so
one that saves no checkpoints still loses nothing there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from tunewright.core.scale import Leg, legs
from tunewright.run.checkpoint import pack_tree
from tunewright.run.messages import Answer, Finish, FromWorker, Report, Save, Segment
from tunewright.store import blobs

Channel = Callable[[FromWorker], Answer]


def parts(segment: Segment, channel: Channel) -> Iterator[tuple[Segment, Channel]]:
    """The trainings that a segment means, each with the channel for its messages; without stages, itself.

    Whoever asks for the next one has sent how the one before ended; there is none after a training that did not complete.

    Args:
        segment: The work, in points.
        channel: Where messages go.
    """
    if not segment.stages:
        yield segment, channel
        return
    climb = _Climb(segment, channel)
    for leg in _way(segment):
        yield climb.local(leg), climb.hear
        if climb.over:
            return


def _end(segment: Segment) -> int:
    return segment.stages[-1].end if segment.until is None else segment.until


def _way(segment: Segment) -> list[Leg]:
    """The trainings of a segment; one of no steps where there is nothing left to train."""
    found = list(legs(segment.stages, segment.step, _end(segment)))
    if found:
        return found
    stage = next(s for s in segment.stages if segment.step <= s.end or s is segment.stages[-1])
    return [Leg(stage, stage.done(segment.step), stage.done(segment.step))]


class _Climb:
    """Translates between the steps of one size and the points of the scale.

    Attributes:
        over: Whether the segment has ended.
    """

    def __init__(self, segment: Segment, channel: Channel) -> None:
        self.over = False
        self._segment = segment
        self._channel = channel
        self._leg: Leg | None = None
        self._held: Report | None = None
        self._cost = 0.0

    def local(self, leg: Leg) -> Segment:
        """The segment as the training of one size."""
        segment, stage, self._leg = self._segment, leg.stage, leg
        return msgspec.structs.replace(
            segment,
            step=leg.first,
            until=leg.last,
            high=stage.steps,
            checkpoint=segment.checkpoint if leg.first else None,
            stages=[],
            sizes=stage.sizes,
            rule=stage.rule,
        )

    def hear(self, message: FromWorker) -> Answer:
        """Passes a message on, in points."""
        if isinstance(message, Report):
            message = msgspec.structs.replace(message, step=self._point(message.step))
            if message.step == self._now.stage.end and self._climbs and not message.bad:
                # What the function returns belongs to the same point.
                self._held = message
                return Answer()
        elif isinstance(message, Save):
            message = msgspec.structs.replace(message, step=self._point(message.step))
        elif isinstance(message, Finish):
            return self._finish(message)
        return self._channel(message)

    @property
    def _now(self) -> Leg:
        assert self._leg is not None
        return self._leg

    @property
    def _climbs(self) -> bool:
        """Whether there is a larger size after this one, now or later."""
        return self._now.stage.end < self._segment.stages[-1].end

    def _point(self, step: int) -> int:
        return self._now.stage.point(step)

    def _finish(self, message: Finish) -> Answer:
        leg, before, self._cost = self._now, self._cost, self._cost + (message.cost or 0.0)
        point = leg.stage.point(message.step)
        message = msgspec.structs.replace(message, step=point)
        if before:
            message = msgspec.structs.replace(message, cost=self._cost)
        if message.outcome != "completed" or not self._climbs:
            self.over = True
            if self._held is not None:
                self._channel(self._held)
            return self._channel(message)
        return self._next(leg, message)

    def _next(self, leg: Leg, message: Finish) -> Answer:
        """One size is trained: its result is in the log before the next one begins."""
        token, held = message.token, self._held
        values = {**(held.metrics if held else {}), **(message.metrics or {})}
        variance = message.variance or (held.variance if held else None)
        report = Report(
            message.trial, token, leg.stage.end, values, None, variance, held.cost if held else None
        )
        self._held = None
        answer = self._channel(report)
        if answer.error:
            self.over = True
            return self._channel(_ended(message, "killed", answer.error))
        name = message.checkpoint or self._mark(leg)
        if leg.stage.end >= _end(self._segment) or answer.verdict:
            self.over = True
            stopped = answer.verdict == "stop"
            return self._channel(
                _ended(message, "stopped" if stopped else "paused", checkpoint=None if stopped else name)
            )
        answer = self._channel(Save(message.trial, token, leg.stage.end, name))
        if answer.verdict or answer.error:
            self.over = True
            return self._channel(_ended(message, "paused", checkpoint=name))
        return answer

    def _mark(self, leg: Leg) -> str:
        """A checkpoint of nothing but the fact that a size is done."""
        segment = self._segment
        stem = f"t{segment.trial}-s{leg.stage.end}"
        return blobs.put(segment.blobs, stem, pack_tree({"sizes": leg.stage.sizes}), flush=segment.flush)


def _ended(message: Finish, outcome: Any, error: str = "", checkpoint: str | None = None) -> Finish:
    return msgspec.structs.replace(message, outcome=outcome, error=error, checkpoint=checkpoint)
