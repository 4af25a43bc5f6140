"""Chooses where training happens: this process, worker processes, or a cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import parse_qsl

from tunewright.core.units import whole
from tunewright.errors import ConfigError
from tunewright.run.allowance import Limits
from tunewright.run.executor import Executor, InProcess
from tunewright.run.metering import Meter


class Place(Protocol):
    """Somewhere else to run, such as ``run.ray.Ray``."""

    def executor(self, function: Callable[..., Any], workers: int, limits: Limits) -> Executor:
        """What runs the function there."""
        ...


def executor_for(
    train: Callable[..., Any],
    workers: int | None = None,
    trial_timeout: float | None = None,
    limits: Limits | None = None,
    on: str | Place | None = None,
) -> Executor:
    """This process when that can do what was asked for, else worker processes; or another place.

    Args:
        train: The training function.
        workers: Trials at a time; None for as many as ``per_device`` has places for, else 1.
        trial_timeout: Seconds that one segment may take.
        limits: What a trial may use.
        on: ``"ray"``, the address of a Ray cluster, or a place; None for this machine.

    Raises:
        ConfigError: If the number of workers or the place cannot be used.
    """
    whole("workers", workers)
    allowed = limits or Limits()
    count = workers or allowed.places or 1
    if on is not None:
        return place_of(on).executor(train, count, allowed)
    if count == 1 and trial_timeout is None and allowed.alone:
        return InProcess(train)
    from tunewright.run.processes import Processes

    return Processes(train, count, allowed)


def meter_for(cost: str | Meter, on: str | Place | None = None) -> Meter | None:
    """What counts the cost of trials; None for the wall time.

    Args:
        cost: ``"seconds"``, ``"energy"``, or a meter.
        on: Where trials run; None for this machine.

    Raises:
        ConfigError: If it is something else, or this machine cannot count it.
    """
    if cost == "seconds":
        return None
    if on is not None:
        raise ConfigError(
            f"A meter counts on this machine; got cost={cost!r:.80} for trials on {on!r:.80}. Leave out cost, and report it: "
            f"trial.report(step, cost=meter.lap())."
        )
    if isinstance(cost, str):
        if cost != "energy":
            raise ConfigError(f"cost must be 'seconds', 'energy' or a meter; got {cost!r:.80}. Correct it.")
        from tunewright.run.energy import machine_meter

        return machine_meter()
    if not callable(getattr(cost, "lap", None)):
        raise ConfigError(
            f"cost must be 'seconds', 'energy' or a meter with lap(); got {cost!r:.80}. Correct it."
        )
    return cost


def place_of(on: str | Place) -> Place:
    """The place that a text names, such as ``"ray"``, ``"ray?gpus=0.5"`` or ``"ray://head:10001?cpus=4&gpus=1"``.

    Raises:
        ConfigError: If there is none of that name, or it cannot be asked for that.
    """
    if not isinstance(on, str):
        return on
    address, _, asked = on.partition("?")
    if address == "ray" or address.startswith("ray://"):
        from tunewright.run.ray import Ray

        where = None if address == "ray" else address
        return Ray(address=where, **_numbers(on, asked, ("cpus", "gpus", "patience")))
    raise ConfigError(
        f"Trials run on this machine, on 'ray' or on 'ray://host:port'; got on={on!r:.100}. Leave it out or correct it."
    )


def _numbers(on: str, asked: str, known: tuple[str, ...]) -> dict[str, Any]:
    """What follows the question mark."""
    found: dict[str, Any] = {}
    for key, value in parse_qsl(asked, keep_blank_values=True):
        try:
            if key not in known:
                raise ValueError(key)
            found[key] = float(value)
        except ValueError:
            raise ConfigError(
                f"A place may be asked for {', '.join(known)}, as numbers; got on={on!r:.100}. Try ray?gpus=0.5."
            ) from None
    return found
