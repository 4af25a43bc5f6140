"""Hydra's jobs as trials: the sweeper behind ``hydra/sweeper=tunewright``, and ``report`` for jobs that may stop early.

*Use when* an application is configured with Hydra: ``python train.py -m hydra/sweeper=tunewright lr=interval(1e-5,1e-1)``.
The same command continues the study after a crash.

*Do not use when* jobs should pause and go on with more steps later: Hydra's jobs begin and end. Methods that only stop
trials work in full.

Example:
    In the application::

        from tunewright.integrations.hydra import report

        for epoch in range(1, cfg.epochs + 1):
            loss = train_one_epoch(...)
            if not report(epoch, loss=loss):
                break
        return loss
"""

from __future__ import annotations

import base64
import logging
import os
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tunewright.core.domains import Bool, Choice, Domain, Float, Int, Order, plain
from tunewright.core.space import Space
from tunewright.errors import ConfigError, SpaceError, TooManyFailures
from tunewright.run.failing import Failures
from tunewright.study import Asked, Study

log = logging.getLogger(__name__)
VARIABLE = "TUNEWRIGHT_HYDRA_TRIAL"
RESULTS = "optimization_results.yaml"
_here: dict[str, _Handle] = {}


class _Place(NamedTuple):
    """Where a job finds its trial."""

    storage: str
    study: str
    trial: int
    token: int


class _Handle(NamedTuple):
    """A job's trial, opened once per process."""

    study: Study
    asked: Asked
    done: int


# ------------------------------------------------------------------ in the job


def report(step: int, **metrics: Any) -> bool:
    """Reports measurements of the running job; outside of a sweep it does nothing.

    Args:
        step: Finished steps, from 1.
        **metrics: Values by name.

    Returns:
        Whether to go on; False when the method wants the trial stopped. Return from the job then.

    Raises:
        ConfigError: If a step or a value is not a number.
        LeaseLost: If the trial was taken over by another process.
    """
    text = os.environ.get(VARIABLE)
    if text is None:
        return True
    handle = _here.get(text)
    if handle is None:
        handle = _here[text] = _opened(_unpacked(text))
    # A job that was begun again to train for longer measures again what is known.
    if step <= handle.done:
        return True
    return handle.study.report(handle.asked, step, **metrics)


def trial() -> Asked | None:
    """The running job's trial, with its number and parameters; None outside of a sweep."""
    text = os.environ.get(VARIABLE)
    if text is None:
        return None
    if text not in _here:
        _here[text] = _opened(_unpacked(text))
    return _here[text].asked


def _opened(place: _Place) -> _Handle:
    study = _ours.get(place.storage, place.study) or Study.open(
        place.study, storage=place.storage, exist="must"
    )
    found = study.trials[place.trial]
    asked = Asked(study, found)
    asked.token = place.token
    return _Handle(study, asked, found.step)


def _packed(place: _Place) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def _unpacked(text: str) -> _Place:
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    return _Place(*msgspec.json.decode(data))


class _Ours:
    """The study that this process sweeps; jobs in the same process report to it directly."""

    def __init__(self) -> None:
        self.study: Study | None = None

    def get(self, storage: str, name: str) -> Study | None:
        study = self.study
        fits = study is not None and study.name == name and study.session.store.url == storage
        return study if fits else None


_ours = _Ours()


# ------------------------------------------------------------------ what to search


class Searched(NamedTuple):
    """What a sweep searches.

    Attributes:
        space: The parameters.
        fixed: Overrides that every job gets.
        words: The override for each option of a choice, by parameter and option.
    """

    space: Space
    fixed: list[str]
    words: dict[str, dict[Any, str]]


def searched(overrides: Sequence[Any]) -> Searched:
    """The space that parsed overrides describe.

    ``interval`` is a range, ``int(interval(1, 8))`` one of whole numbers; ``range`` whole or evenly spaced numbers without the
    end; ``choice``, commas and ``glob`` are options. The tags ``log`` and ``ordered`` say more about a range and a choice.

    Args:
        overrides: From Hydra's parser; of two for one key the later one holds.

    Raises:
        ConfigError: If there is nothing to search.
        SpaceError: If a range cannot be used.
    """
    last = {o.get_key_element(): o for o in overrides}
    domains: dict[str, Domain] = {}
    words: dict[str, dict[Any, str]] = {}
    fixed = []
    for key, override in last.items():
        if not override.is_sweep_override():
            fixed.append(override.input_line)
            continue
        domain, named = _domain(override)
        domains[key] = domain
        if named is not None:
            words[key] = named
    if not domains:
        raise ConfigError(
            "A sweep needs something to search; got no interval, range or choice. Write it like 'lr=tag(log, interval(1e-5, 1e-1))'."
        )
    return Searched(Space(domains), fixed, words)


def _domain(override: Any) -> tuple[Domain, dict[Any, str] | None]:
    from hydra.core.override_parser.types import IntervalSweep, RangeSweep

    value, key = override.value(), override.get_key_element()
    tags = set(getattr(value, "tags", ()))
    unknown = tags - {"log", "ordered"}
    if unknown:
        raise ConfigError(f"Tags are log and ordered; '{key}' has {', '.join(sorted(unknown))}. Remove it.")
    if isinstance(value, IntervalSweep):
        ends = (value.start, value.end)
        if all(type(v) is int for v in ends):
            return Int(int(value.start or 0), int(value.end or 0), log="log" in tags), None
        return Float(float(value.start or 0), float(value.end or 0), log="log" in tags), None
    if isinstance(value, RangeSweep):
        found = _range(value, "log" in tags)
        if found is not None:
            return found, None
    if "log" in tags:
        raise ConfigError(f"The tag log belongs to an interval or a range; '{key}' is a choice. Use ordered.")
    return _options(override, "ordered" in tags)


def _range(value: Any, log_scale: bool) -> Domain | None:
    """A range as numbers with a step; one that counts down or has one value goes as options."""
    start, stop, step = value.start or 0, value.stop, value.step
    count = 0 if step <= 0 else max(0, -int(-(stop - start) // step))
    if count < 2:
        return None
    high = start + (count - 1) * step
    if isinstance(start, int) and isinstance(high, int) and isinstance(step, int):
        return Int(start, high, log=log_scale, step=1 if log_scale else step)
    return Float(float(start), float(high), log=log_scale, step=None if log_scale else float(step))


def _options(override: Any, ordered: bool) -> tuple[Domain, dict[Any, str]]:
    words = list(override.sweep_string_iterator())
    options = [_option(v) for v in override.sweep_iterator()] if words else []
    if len({(type(o), o) for o in options}) < len(options):
        options = list(words)
    named = {_id(o): word for o, word in zip(options, words, strict=True)}
    if set(map(type, options)) == {bool} and len(options) == 2:
        return Bool(), named
    return (Order(options) if ordered else Choice(options)), named


def _option(value: Any) -> Any:
    text = getattr(value, "text", value)
    try:
        return plain(text)
    except SpaceError:
        return str(text)


def _id(option: Any) -> Any:
    """As keys of a dict, True and 1 are one."""
    return type(option).__name__, option


# ------------------------------------------------------------------ the sweep


class Sweep:
    """A study whose trials are Hydra's jobs.

    Args:
        settings: As in ``TunewrightSweeperConf``.
        context: From Hydra.
        task: The application.
        config: The primary config.
    """

    def __init__(self, settings: Mapping[str, Any], context: Any, task: Any, config: Any) -> None:
        from hydra.core.plugins import Plugins

        self._settings = dict(settings)
        self._config = config
        self._loader = context.config_loader
        self._launcher = Plugins.instance().instantiate_launcher(
            hydra_context=context, task_function=task, config=config
        )

    def run(self, arguments: Sequence[str]) -> dict[str, Any]:
        """Runs jobs until the study has its trials; what ended earlier counts.

        Args:
            arguments: Overrides of the command line.

        Returns:
            The study's name and its best trial.

        Raises:
            ConfigError: If there is nothing to search, or a setting cannot be used.
            TooManyFailures: If the jobs fail too often.
        """
        what = searched(self._parsed(arguments))
        with self._open(what.space) as study:
            _ours.study = study
            try:
                self._go(study, what)
            finally:
                _ours.study = None
                _here.clear()
            return self._result(study)

    def _parsed(self, arguments: Sequence[str]) -> list[Any]:
        from hydra.core.override_parser.overrides_parser import OverridesParser

        parser = OverridesParser.create(config_loader=self._loader)
        declared = [f"{k}={v}" for k, v in (self._settings.get("params") or {}).items()]
        parsed: list[Any] = parser.parse_overrides([*declared, *arguments])
        return parsed

    def _open(self, space: Space) -> Study:
        given = self._settings
        steps = _plain(given.get("steps"))
        return Study.open(
            given.get("study") or str(self._config.hydra.job.name),
            space,
            minimize=_plain(given.get("minimize")) or (),
            maximize=_plain(given.get("maximize")) or (),
            steps=tuple(steps) if isinstance(steps, list) else steps,
            limits=_plain(given.get("limits")) or None,
            method=given.get("method") or "auto",
            options=_plain(given.get("options")) or None,
            seed=given.get("seed"),
            storage=given.get("storage"),
            resumable=False,
        )

    def _go(self, study: Study, what: Searched) -> None:
        trials, jobs = int(self._settings.get("trials", 20)), int(self._settings.get("n_jobs", 1))
        if trials < 1 or jobs < 1:
            raise ConfigError(
                f"A sweep needs trials and n_jobs of 1 or more; got {trials} and {jobs}. Correct them."
            )
        failures = Failures(_plain(self._settings.get("failures", "auto")))
        while True:
            batch = self._batch(study, trials, jobs)
            if not batch:
                return
            try:
                reasons = [r for part in _runs(batch) for r in self._launch(study, part, what, failures)]
            except BaseException:
                for asked in batch:
                    if not study.trials[asked.number].finished:
                        study.release(asked)
                raise
            if reasons:
                raise TooManyFailures(reasons[0])

    def _batch(self, study: Study, trials: int, jobs: int) -> list[Asked]:
        """The next trials; those that another process lost first."""
        batch: list[Asked] = []
        while len(batch) < jobs:
            trial = study.session.ask(limit=trials)
            if trial is None:
                break
            batch.append(study._held(trial))  # noqa: SLF001 - asks with a limit, which ask has not
        return sorted(batch, key=lambda a: a.number)

    def _launch(self, study: Study, batch: Sequence[Asked], what: Searched, failures: Failures) -> list[str]:
        url = study.session.store.url
        overrides = [
            [
                *what.fixed,
                *(_override(name, value, what.words) for name, value in asked.params.items()),
                f"+hydra.job.env_set.{VARIABLE}='{_packed(_Place(url, study.name, asked.number, asked.token))}'",
            ]
            for asked in batch
        ]
        returns = self._launcher.launch(overrides, initial_job_idx=batch[0].number)
        reasons = []
        for asked, job in zip(batch, returns, strict=True):
            outcome, error = self._told(study, asked, job)
            reason = failures.count(outcome, error)
            if reason is not None:
                reasons.append(reason)
        return reasons

    def _told(self, study: Study, asked: Asked, job: Any) -> tuple[Any, str]:
        """Records what a job came to; one that cannot be read as a result is a failed trial."""
        from hydra.core.utils import JobStatus

        if job.status is JobStatus.COMPLETED:
            try:
                ended = study.tell(asked, _plain(job.return_value))
                return ended.status, ended.error
            except ConfigError as error:
                text = str(error)
        else:
            raised = job._return_value  # noqa: SLF001 - its property raises it again
            text = (
                "".join(traceback.format_exception(raised))
                if isinstance(raised, BaseException)
                else str(raised)
            )
        log.warning("trial %d failed: %s", asked.number, text.strip().splitlines()[-1])
        study.tell(asked, outcome="failed", error=text)
        return "failed", text

    def _result(self, study: Study) -> dict[str, Any]:
        """What the sweep found, also written into the folder of the sweep."""
        from omegaconf import OmegaConf

        if study.problem.m > 1:
            front = [{"params": t.params, "metrics": t.metrics} for t in study.pareto]
            found: dict[str, Any] = {"name": "tunewright", "study": study.name, "solutions": front}
        elif study.session.ledger.best is None:
            found = {"name": "tunewright", "study": study.name}
        else:
            best = study.best
            value = best.metrics[study.problem.objectives[0].name]
            found = {
                "name": "tunewright", "study": study.name, "best_params": best.params, "best_value": value, "best_job": best.number,
            }  # fmt: skip
            log.info("best of study '%s': trial %d, %s, %s", study.name, best.number, value, best.params)
        folder = Path(str(self._config.hydra.sweep.dir))
        folder.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(OmegaConf.create(found), folder / RESULTS)
        return found


def _runs(batch: Sequence[Asked]) -> list[list[Asked]]:
    """The batch in parts whose numbers follow on each other: the number of a trial is that of its job."""
    parts: list[list[Asked]] = []
    for asked in batch:
        if parts and parts[-1][-1].number + 1 == asked.number:
            parts[-1].append(asked)
        else:
            parts.append([asked])
    return parts


def _override(name: str, value: Any, words: Mapping[str, Mapping[Any, str]]) -> str:
    """An override that sets a parameter."""
    word = words.get(name, {}).get(_id(value))
    return f"{name}={_word(value) if word is None else word}"


def _word(value: Any) -> str:
    """A value as Hydra's grammar has it."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, str):
        from hydra.core.override_parser.types import Quote, QuotedString

        return QuotedString(value, Quote.single).with_quotes()
    return repr(value)


def _plain(value: Any) -> Any:
    """Plain data of OmegaConf's containers."""
    from omegaconf import OmegaConf

    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
