"""What people write in a sweep in their own words, said in the words of ``Study.open`` and ``Study.run``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tunewright.errors import ConfigError

if TYPE_CHECKING:
    from tunewright.study import Study

_FULL = (
    "epochs", "max-epochs", "num-epochs", "n-epochs", "num-train-epochs", "total-epochs", "nepochs",
    "steps", "max-steps", "num-steps", "total-steps", "iterations", "max-iter", "num-iterations", "rounds",
    "num-boost-round", "n-estimators",
)  # fmt: skip
_TRIALS = re.compile(r"(\+?\d+)\s*trials?")
_RETRY = ("lost", "oom", "failed")
_KEEPS = "halting"
_PAUSING = ("asha", "sha", "hyperband", "pasha", "bohb")
_NONE = ("none", "no", "off", "false")


def steps_of(argv: Sequence[str]) -> int | None:
    """Steps of a full training, where the command itself says so, as ``--epochs 30`` does; else None.

    Example:
        >>> steps_of(["python", "train.py", "--max_epochs=30"])
        30
    """
    for i, word in enumerate(argv):
        option, equals, value = word.partition("=")
        name = option.lstrip("-").replace("_", "-").lower()
        if name in _FULL and (option.startswith("-") or equals):
            text = value if equals else argv[i + 1] if i + 1 < len(argv) else ""
            if text.isdigit() and int(text) > 1:
                return int(text)
    return None


def settle(told: dict[str, Any], argv: Sequence[str]) -> None:
    """Replaces ``budget``, ``early_stop``, ``gpus``, ``gpus_per_trial`` and ``retry`` by what they mean.

    Args:
        told: Options by name, changed in place.
        argv: The command, empty for a function.

    Raises:
        ConfigError: If one of them cannot be used.
    """
    if "budget" in told:
        _budget(told)
    if "early_stop" in told:
        _early_stop(told, argv)
    if "gpus" in told or "gpus_per_trial" in told:
        _gpus(told)
    if "retry" in told:
        told["retry"] = retries(told["retry"])
    seeds = told.get("seeds")
    if seeds is not None and (isinstance(seeds, bool) or not isinstance(seeds, int) or seeds < 1):
        raise ConfigError(f"seeds must be a whole number from 1; got {seeds!r}. Correct it.")
    if seeds is not None and not argv:
        raise ConfigError(
            "seeds are for commands; got a function. Train it on several seeds inside, or use method='racing(tpe)'."
        )


def _budget(told: dict[str, Any]) -> None:
    """``8h`` or ``+4h`` is time of this run, ``100 trials`` a number of trials."""
    words = str(told.pop("budget")).strip()
    trials = _TRIALS.fullmatch(words)
    told["trials" if trials else "timeout"] = trials[1] if trials else words.removeprefix("+")


def _early_stop(told: dict[str, Any], argv: Sequence[str]) -> None:
    from tunewright import catalog

    word = str(told.pop("early_stop")).strip().lower()
    if word in _NONE:
        return
    if told.get("steps") is None:
        found = steps_of(argv)
        if found is None:
            raise ConfigError(
                f"Early stopping by '{word}' needs the steps of a full training; the command names no --epochs or --steps. "
                f"Pass --steps N (steps = N in a file)."
            )
        told["steps"] = found
    if word in ("auto", "true", "yes"):
        return
    stops = [n for n, m in catalog.METHODS.items() if m.kind == "scheduler"]
    if word not in stops:
        close = difflib.get_close_matches(word, stops, 1)
        hint = f"Did you mean '{close[0]}'?" if close else f"Known are auto, none, {', '.join(stops)}."
        raise ConfigError(f"Early stopping must be a known scheduler; got {word!r}. {hint}")
    # What pauses trials would throw away the training of a script that cannot go on; this stops at the same rungs.
    if argv and not told.get("resumable") and word in _PAUSING:
        word = _KEEPS
    inner = told.get("method")
    told["method"] = f"{word}({inner})" if inner and inner != "auto" else word


def _gpus(told: dict[str, Any]) -> None:
    from tunewright.run.gpus import chosen

    each = told.pop("gpus_per_trial", None)
    asked = told.pop("gpus", None)
    if told.get("devices") is None and (asked is not None or each):
        told["devices"] = ",".join(chosen(asked if asked is not None else "all")) or None
    if told.get("devices") is not None and told.get("per_device") is None:
        told["per_device"] = _share(each)


def _share(each: Any) -> float:
    """Trials that share a GPU, from the GPUs that a trial takes."""
    if each is None:
        return 1.0
    if isinstance(each, bool) or not isinstance(each, int | float) or each <= 0:
        raise ConfigError(
            f"gpus_per_trial must be a number above 0, such as 1 or 0.5; got {each!r}. Correct it."
        )
    return float(round(1 / each)) if each < 1 else 1 / each


def retries(given: Any) -> dict[str, int]:
    """How often a trial is tried again, by what went wrong: ``lost``, ``oom``, ``failed``.

    Args:
        given: A table, or a text such as ``lost=2,oom=1``.

    Raises:
        ConfigError: If it means nothing.
    """
    pairs = given
    if isinstance(given, str):
        pairs = {
            k.strip(): v.strip() for k, _, v in (w.partition("=") for w in given.split(",") if w.strip())
        }
    found: dict[str, int] = {}
    for name, value in pairs.items() if isinstance(pairs, dict) else [("", given)]:
        if name not in _RETRY or isinstance(value, bool) or not str(value).isdigit():
            raise ConfigError(
                f"retry must say how often, as lost=2,oom=1,failed=0; got {given!r}. Correct it."
            )
        found[name] = int(value)
    return found


def changed(study: Study, words: Sequence[str]) -> list[str]:
    """Makes a new version of a study's space; returns what is different.

    Args:
        study: The study.
        words: ``lr.high=0.3`` sets one bound, ``lr=log 1e-5..0.3`` a whole declaration.

    Raises:
        ConfigError: If there is no such parameter or bound.
        SpaceError: If the space cannot be used any more.
    """
    from tunewright.core.space import Space

    before = study.space
    stored = before.to_dict()
    for word in words:
        name, equals, text = (part.strip() for part in word.partition("="))
        if not equals or not text:
            raise ConfigError(f"--set needs NAME.FIELD=VALUE; got {word!r}. Write lr.high=0.3.")
        _change(stored["parameters"], name, text)
    after = Space.from_dict(stored)
    lines = before.diff(after)
    study.session.edit(after)
    return [f"space of '{study.name}': {line}" for line in lines] or ["the space is the same as before"]


def _change(parameters: list[dict[str, Any]], name: str, text: str) -> None:
    """Puts a new bound or declaration into the stored form of a space."""
    from tunewright.run.template import declared, scalar

    known = {p["name"]: p for p in parameters}
    if name in known:
        entry = known[name]
        entry_when = {k: v for k, v in entry.items() if k in ("name", "when")}
        entry.clear()
        entry |= {**entry_when, **declared(name, text).to_dict()}
        return
    parameter, _, field = name.rpartition(".")
    if parameter not in known:
        close = difflib.get_close_matches(parameter or name, known, 1)
        hint = f"Did you mean '{close[0]}'?" if close else f"It has {', '.join(known)}."
        raise ConfigError(f"--set needs a parameter of the space; got '{parameter or name}'. {hint}")
    domain = known[parameter]
    if field not in domain or field in ("name", "type"):
        fields = [k for k in domain if k not in ("name", "type")]
        close = difflib.get_close_matches(field, fields, 1)
        hint = f"Did you mean '{close[0]}'?" if close else f"'{parameter}' has {', '.join(fields)}."
        raise ConfigError(f"--set needs a field of '{parameter}'; got '{field}'. {hint}")
    domain[field] = {"true": True, "false": False}.get(text, scalar(text))
