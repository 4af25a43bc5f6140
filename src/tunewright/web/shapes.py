"""What the pages get as JSON beside figures: typed, so that the description of the interface says it."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

Standing = Literal["running", "idle", "paused", "done"]
"""``running``: somebody trains; ``paused``: people want it to wait; ``done``: people stopped it; ``idle``: neither."""


class ObjectiveShape(msgspec.Struct, frozen=True):
    """A metric to be made small or large.

    Attributes:
        name: Its name.
        goal: ``minimize`` or ``maximize``.
        unit: Shown next to values; may be empty.
    """

    name: str
    goal: str
    unit: str


class BoardLine(msgspec.Struct, frozen=True):
    """One study at a glance.

    Attributes:
        name: Its name.
        method: Name of its method.
        created: Seconds since 1970.
        updated: Time of the last record of its log, seconds since 1970.
        objectives: What it optimises.
        counts: Number of trials by status.
        best: Best value of a study with one objective.
        best_trial: Number of the trial that has it.
        workers: Workers that train for it now.
        state: What goes on.
        tags: Its tags.
    """

    name: str
    method: str
    created: float
    updated: float
    objectives: list[ObjectiveShape]
    counts: dict[str, int]
    best: float | None
    best_trial: int | None
    workers: int
    state: Standing
    tags: list[str]


class BoardAnswer(msgspec.Struct, frozen=True):
    """The studies at a glance.

    Attributes:
        version: Version of the server.
        readonly: Whether nothing may be changed here.
        rights: The scope of the caller.
        studies: Newest first.
    """

    version: str
    readonly: bool
    rights: Literal["read", "worker", "admin"]
    studies: list[BoardLine]


class Param(msgspec.Struct, frozen=True):
    """One parameter as a column.

    Attributes:
        name: Its name.
        kind: ``float``, ``int``, ``choice``, ``ordinal`` or ``other``.
        log: Whether its scale is logarithmic.
        low: Lower bound of a number.
        high: Upper bound of a number.
        labels: Texts of its values, where it is no number.
        data: Its values, or places in ``labels``; null where it is not active.
    """

    name: str
    kind: Literal["float", "int", "choice", "ordinal", "other"]
    log: bool
    low: float | None
    high: float | None
    labels: list[str] | None
    data: list[float | None]


class Steps(msgspec.Struct, frozen=True):
    """The steps of a training.

    Attributes:
        name: What they are called.
        low: Fewest steps.
        high: Steps of a full training.
    """

    name: str
    low: int
    high: int


class ColumnsAnswer(msgspec.Struct, frozen=True):
    """Trials as columns of equal length; numbers have six significant digits.

    Attributes:
        rev: Position of the log that they show; what changed later is asked for with ``since``.
        n: Number of trials in all.
        whole: Whether these are all rows; else only those that changed, to be merged by ``number``.
        name: Name of the study.
        method: Name of its method.
        created: Seconds since 1970; ``began`` and ``ended`` are seconds since then.
        objectives: What is optimised.
        fidelity: Steps of a training, where it has some.
        sizes: The proxies of a study with a scale, smallest first.
        places: What each value in ``step`` means with a scale.
        best: Number of the best trial; -1 for none or several objectives.
        states: Names of the codes in ``state``.
        state: Status.
        number: Number of the trial.
        step: Steps done.
        began: When it began.
        ended: When it ended; null for one that did not.
        cost: What it cost, in the study's unit.
        workers: Names of the places in ``worker``.
        worker: Who runs or ran it; -1 for nobody.
        origins: Names of the places in ``origin``.
        origin: Who proposed it; -1 for nobody.
        parent: Trial that it continues; -1 for none.
        values: What it measured, by metric.
        params: Its parameters.
    """

    rev: int
    n: int
    whole: bool
    name: str
    method: str
    created: float
    objectives: list[ObjectiveShape]
    fidelity: Steps | None
    sizes: list[str]
    places: dict[int, str]
    best: int
    states: list[str]
    state: list[int]
    number: list[int]
    step: list[int]
    began: list[float]
    ended: list[float | None]
    cost: list[float | None]
    workers: list[str]
    worker: list[int]
    origins: list[str]
    origin: list[int]
    parent: list[int]
    values: dict[str, list[float | None]]
    params: list[Param]


class Baseline(msgspec.Struct, frozen=True):
    """What the best trial is compared with.

    Attributes:
        trial: Number of the trial that tried the defaults.
        value: What it measured.
    """

    trial: int
    value: float


class Pace(msgspec.Struct, frozen=True):
    """How far a study is and when it may end.

    Attributes:
        trials: Trials that it is to have, where that is known.
        done: Trials that are over.
        per_minute: Trials that ended a minute lately; null before there are some.
        seconds: Seconds until the last one ends, as far as can be told.
    """

    trials: int | None
    done: int
    per_minute: float | None
    seconds: float | None


class Working(msgspec.Struct, frozen=True):
    """Who works on what.

    Attributes:
        name: The worker.
        trial: Number of its trial.
        step: Steps done.
        until: Step at which this part of the training ends.
        since: When the trial began, seconds since 1970.
        silent: Whether it has not been heard of for too long.
    """

    name: str
    trial: int
    step: int
    until: int | None
    since: float
    silent: bool


class OverviewAnswer(msgspec.Struct, frozen=True):
    """A study in words.

    Attributes:
        name: Its name.
        method: Name of its method.
        why: Why that method was chosen, where it was chosen for the user.
        state: What goes on.
        counts: Number of trials by status.
        queued: Configurations that wait to be tried.
        best: The best trial of a study with one objective.
        pareto: Numbers of the trials that none beats in every objective, of a study with several.
        default: The defaults' result, where they were tried.
        gain: What the best gains over the defaults, or over the first trial.
        advice: What to do next, the most urgent first.
        stop: Whether it is worth going on, in a sentence; empty where nothing can be said.
        eta: How far it is.
        workers: Who works on what.
        insight: What there is to see, in a sentence.
    """

    name: str
    method: str
    why: str
    state: Standing
    counts: dict[str, int]
    queued: int
    best: dict[str, Any] | None
    pareto: list[int]
    default: Baseline | None
    gain: str | None
    advice: list[str]
    stop: str
    eta: Pace
    workers: list[Working]
    insight: str


class ChartLine(msgspec.Struct, frozen=True):
    """A kind of chart that makes sense for a study.

    Attributes:
        kind: Its name in addresses.
        title: Its name for people.
        page: The page that it is on.
    """

    kind: str
    title: str
    page: str


class Target(msgspec.Struct, frozen=True):
    """The model that is meant.

    Attributes:
        name: Its sizes as people say them.
        sizes: By name.
        steps: Of its training.
    """

    name: str
    sizes: dict[str, int]
    steps: int


class SizeLine(msgspec.Struct, frozen=True):
    """What is known at a proxy.

    Attributes:
        name: Its sizes as people say them.
        sizes: By name.
        steps: Of its training.
        rate: The best rate.
        low: Lower end of its interval of 90 percent.
        high: Upper end.
        loss: Of the objective there.
        count: Trainings that did not diverge.
        diverged: Trainings that did.
        edge: ``low`` or ``high`` if the best rate lies at that end of what was searched or tried, else empty.
    """

    name: str
    sizes: dict[str, int]
    steps: int
    rate: float
    low: float
    high: float
    loss: float
    count: int
    diverged: int
    edge: str


class RuleLine(msgspec.Struct, frozen=True):
    """What proxies say of a parametrization.

    Attributes:
        rule: Its name.
        claims: Whether it says that the best rate stays.
        refusal: Why nothing follows; empty if something does.
        drift: Doublings of the best rate for each of the size, with the ends of an interval of 90 percent.
        length: The law that brought rates to the length of the target's training, where there was one.
        predicted: The target's rate with its interval.
        expected: The objective that is expected at the largest proxy.
        sizes: What is known at each proxy.
    """

    rule: str
    claims: bool
    refusal: str
    drift: list[float] | None
    length: dict[str, Any] | None
    predicted: dict[str, float] | None
    expected: float | None
    sizes: list[SizeLine]


class TransferAnswer(msgspec.Struct, frozen=True):
    """Settings of the target of a study with a scale, or why there are none.

    Attributes:
        target: The model that is meant.
        objective: What is measured.
        parameter: The rate that is followed from size to size.
        rule: The parametrization that was chosen; empty if all were refused.
        settings: Parameters of the target; null if there are none.
        interval: The rate's interval of 90 percent.
        refusal: Why there are no settings; empty if there are.
        why: Why that rule was chosen, where there were several.
        cost: What the study cost, in trainings of the target.
        warnings: What proxies cannot show.
        rules: What they say of each parametrization.
    """

    target: Target
    objective: str
    parameter: str
    rule: str
    settings: dict[str, Any] | None
    interval: list[float] | None
    refusal: str
    why: str
    cost: float
    warnings: list[str]
    rules: list[RuleLine]


class CopyAnswer(msgspec.Struct, frozen=True):
    """The parameters of a trial, to be pasted.

    Attributes:
        command: The command line that trains with them; null for a study that was not run as a command.
        python: A call of the training function.
        json: The parameters.
    """

    command: str | None
    python: str
    json: str


class ClaimLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """A statement of a paper that was checked.

    Attributes:
        claim: Its short name.
        title: The statement.
        paper: Where it is from.
        verdict: ``holds``, ``holds at reduced scale`` or ``not reproduced``.
        summary: What came out.
        seeds: Number of seeds.
        methods: Methods of the catalogue that it is about.
    """

    claim: str
    title: str
    paper: str
    verdict: str
    summary: str
    seeds: int
    methods: list[str] = []


class MethodLine(msgspec.Struct, frozen=True):
    """A method of the catalogue.

    Attributes:
        name: What users write.
        kind: ``sampler``, ``scheduler``, ``policy``, ``inside`` (tunes inside one run) or ``removing`` (makes a choice
            unnecessary).
        family: Section of the list.
        paper: Authors, year, where.
        summary: What it does.
        when: When to use it.
        needs: Extra that it needs, or empty.
        claims: Statements about it that were checked.
    """

    name: str
    kind: str
    family: str
    paper: str
    summary: str
    when: str
    needs: str
    claims: list[ClaimLine]


class MethodsAnswer(msgspec.Struct, frozen=True):
    """The catalogue, and every statement of a paper that was checked.

    Attributes:
        methods: The methods.
        claims: The statements.
    """

    methods: list[MethodLine]
    claims: list[ClaimLine]


class Compared(msgspec.Struct, frozen=True):
    """One of the studies that are compared.

    Attributes:
        name: Its name.
        method: Name of its method.
        trials: Number of trials.
        completed: Number of those that completed.
        failed: Number of those that failed.
        cost: What they cost together, in the study's unit.
        best: Best value of the first objective.
        best_trial: Trial that has it.
        best_params: Its parameters.
        group: Name that studies over different seeds have in common.
    """

    name: str
    method: str
    trials: int
    completed: int
    failed: int
    cost: float
    best: float | None
    best_trial: int | None
    best_params: dict[str, Any] | None
    group: str


class CompareAnswer(msgspec.Struct, frozen=True):
    """Studies side by side.

    Attributes:
        studies: The studies.
        figure: The best value after each trial, as a figure; groups of several studies with an interval.
        rows: The best value of each study after 1, 2, 5, 10, ... trials: ``trials`` and ``values`` by study.
        space: How the spaces of the first two differ, in words.
        sentence: Which found the better value, and how much that proves.
    """

    studies: list[Compared]
    figure: dict[str, Any] | None
    rows: list[dict[str, Any]]
    space: list[str]
    sentence: str
