"""Charts of several objectives: the front, how its volume grew, and what several studies attain."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from tunewright.analysis.attainment import surfaces, volume_by_trial
from tunewright.analysis.charted import BRIEF, Charted, Floats, need, objective_of, stairs, thin, tip, turns
from tunewright.analysis.drawing import Figure
from tunewright.analysis.marks import GROUPS, Axis, Dots, Line, Mark, Panel, linear, number, values_axis
from tunewright.core.trial import FAILURES, Trial
from tunewright.errors import ConfigError
from tunewright.models.hypervolume import reference_point
from tunewright.numerics.pareto import nondominated

_PARTS = ((0.25, "first quarter"), (0.5, "first half"), (1.0, "all"))


def _losses(study: Charted, what: str) -> tuple[list[Trial], Floats]:
    """Trials that have every objective and meet the limits, and their losses, shape ``(n, m)``."""
    problem = study.problem
    if problem.m < 2:
        raise ConfigError(f"{what} needs two objectives; got {problem.m}. Look at the history instead.")
    found = [
        (t, x)
        for t in study.trials
        if t.status not in FAILURES
        and (x := problem.losses(t.metrics)) is not None
        and not problem.violation(t.metrics)
    ]
    need(found, 1, "the front")
    return [t for t, _ in found], np.array([x for _, x in found])


def _axes(study: Charted, shown: Floats, pair: Sequence[int] = (0, 1)) -> tuple[Axis, Axis]:
    first, second = (values_axis(objective_of(study, i)[2], shown[:, k]) for k, i in enumerate(pair))
    return first, second


def _pair(study: Charted, x: str | None, y: str | None) -> list[int]:
    """Places of the two objectives that are shown, the first two unless they are named."""
    names = [o.name for o in study.problem.objectives]
    for given in (x, y):
        if given is not None and given not in names:
            raise ConfigError(
                f"A Pareto chart shows two of {', '.join(names)}; got {given!r}. Choose one of them."
            )
    first = names[0] if x is None else x
    rest = [n for n in names if n != first]
    second = rest[0] if y is None else y
    if first == second:
        raise ConfigError(
            f"A Pareto chart shows two different objectives; got {first!r} twice. Choose another one."
        )
    return [names.index(first), names.index(second)]


def _steps(front: Floats, signs: Floats) -> Floats:
    """The border of what a front dominates, in the user's sign."""
    ordered = front[np.argsort(front[:, 0], kind="stable")]
    return stairs(ordered[:, 0], ordered[:, 1]) * signs


def pareto(study: Charted, x: str | None = None, y: str | None = None) -> Figure:
    """Two objectives (``x`` and ``y``, else the first two) against each other, and the border of what was attained."""
    trials, losses = _losses(study, "A Pareto chart")
    front = np.asarray(nondominated(losses))
    pair = _pair(study, x, y)
    two = losses[:, pair]
    edge = np.asarray(nondominated(two))
    signs = np.array([study.problem.objectives[i].sign for i in pair])
    shown = two * signs
    across, up = _axes(study, shown, pair)
    names = [o.name for o in study.problem.objectives]
    keep = np.unique(np.r_[np.flatnonzero(front), thin(len(losses))])
    tips = [tip(trials[i], float(shown[i, 0]), brief=len(keep) > BRIEF) for i in keep.tolist()]
    styles = ["best" if front[i] else "muted" for i in keep.tolist()]
    dots = Dots(shown[keep], styles, tips, trials=[trials[i].number for i in keep.tolist()])
    best = [trials[int(np.argmin(losses[:, i]))].number for i in pair]
    knee = trials[_knee(losses, front)].number
    at = [names[i] for i in pair]
    more = f" The chart shows two of {len(names)} objectives." if len(names) > 2 else ""
    return Figure(
        "pareto", "Trade-off",
        "Each point is a trial; no other trial beats the marked ones in every objective, and the line is the border of what they attain.",
        f"{int(front.sum())} of {len(trials)} trials are on the front, between trial {best[0]}, best in {at[0]}, "
        f"and trial {best[1]}, best in {at[1]}; trial {knee} is nearest to being best in all.{more}",
        (Panel(across, up, (Line(_steps(two[edge], signs), "best", "front"), dots), "", 280),),
        (("best", "on the front"), ("muted", "others")),
        ("trial", *names),
        tuple(
            (str(trials[i].number), *(number(float(v * o.sign)) for v, o in zip(losses[i], study.problem.objectives, strict=True)))
            for i in np.flatnonzero(front)[:200].tolist()
        ),
    )  # fmt: skip


def _knee(losses: Floats, front: NDArray[np.bool_]) -> int:
    """The trial of the front nearest to the best of every objective, each scaled by the front's range."""
    here = losses[np.flatnonzero(front)]
    width = np.ptp(here, axis=0)
    scaled = (here - here.min(axis=0)) / np.where(width > 0, width, 1.0)
    return int(np.flatnonzero(front)[int(np.argmin((scaled**2).sum(axis=1)))])


def hypervolume(study: Charted) -> Figure:
    """The volume that the front dominates, by trial."""
    trials, losses = _losses(study, "A chart of the hypervolume")
    reference = reference_point(losses[nondominated(losses)], losses)
    volume = volume_by_trial(losses, reference)
    whole = float(volume[-1]) or 1.0
    share = volume / whole
    numbers = np.array([t.number for t in trials], dtype=np.float64)
    done, turn = int(np.argmax(share >= 0.9)), turns(share)
    last = int(np.argmax(share >= 1.0 - 1e-12))
    point = ", ".join(
        f"{o.name} {number(float(v * o.sign))}"
        for o, v in zip(study.problem.objectives, reference, strict=True)
    )
    late = (
        "; it still grows, so more trials may widen the front"
        if last > 0.8 * len(trials)
        else "; it has not grown since"
    )
    return Figure(
        "hypervolume", "Growth of the front",
        f"The line is the volume between the front and a bad corner ({point}), as a share of the final one; it can only grow.",
        f"90 % was reached at trial {trials[done].number}, the last growth came at trial {trials[last].number} of {trials[-1].number}{late}.",
        (Panel(linear("trial", 0.0, float(numbers[-1]) or 1.0), linear("share of the final hypervolume", 0.0, 1.0),
               (Line(stairs(numbers[turn], share[turn]), "ink", "hypervolume"),), "", 240),),
        (("ink", "hypervolume"),),
        ("trial", "hypervolume", "share"),
        tuple((str(trials[i].number), number(float(volume[i])), f"{share[i]:.1%}") for i in thin(len(trials), 20).tolist()),
    )  # fmt: skip


def attainment(study: Charted, others: Sequence[Charted] = ()) -> Figure:
    """What the first trials, the first half and all attained; with other studies, what at least one, half and all of them did."""
    signs = np.array([o.sign for o in study.problem.objectives[:2]])
    if others:
        return _several([study, *others], signs)
    trials, losses = _losses(study, "A chart of attainment")
    need(trials, 4, "attainment")
    losses = losses[:, :2]
    x, y = _axes(study, losses * signs)
    marks: list[Mark] = []
    sizes = []
    for i, (share, name) in enumerate(_PARTS):
        part = losses[: max(1, round(share * len(losses)))]
        front = part[nondominated(part)]
        sizes.append((name, len(part), len(front)))
        marks.append(Line(_steps(front, signs), f"s{i}", f"{name} of the trials"))
    half, whole = losses[: len(losses) // 2], losses
    reference = reference_point(whole[nondominated(whole)], whole)
    from tunewright.numerics.pareto import hypervolume as volume

    grown = 1.0 - volume(half[nondominated(half)], reference) / (
        volume(whole[nondominated(whole)], reference) or 1.0
    )
    return Figure(
        "attainment", "What was attained",
        "Each line is the border of what part of the trials attained: everything beyond it is worse in both objectives than some trial.",
        f"The second half of the trials added {grown:.0%} of the volume" + (": the front is still moving." if grown > 0.05 else ": the front has settled."),
        (Panel(x, y, tuple(marks), "", 280),),
        tuple((f"s{i}", f"{name} of the trials") for i, (_, name) in enumerate(_PARTS)),
        ("part", "trials", "on the front"),
        tuple((n, str(a), str(b)) for n, a, b in sizes),
    )  # fmt: skip


def _several(studies: Sequence[Charted], signs: Floats) -> Figure:
    every = [_losses(s, "A chart of attainment")[1][:, :2] for s in studies]
    first = studies[0].problem.objectives[:2]
    for s in studies[1:]:
        if [(o.name, o.goal) for o in s.problem.objectives[:2]] != [(o.name, o.goal) for o in first]:
            raise ConfigError(
                f"Attainment surfaces need studies with the same objectives; '{s.name}' has others. Leave it out."
            )
    found = surfaces(every)
    x, y = _axes(studies[0], np.vstack(every) * signs)
    k = len(studies)
    wanted = dict.fromkeys([0, (k - 1) // 2, k - 1])
    names = {0: "at least one study", (k - 1) // 2: "half of the studies", k - 1: "every study"}
    marks: list[Mark] = [
        Line(stairs(found[i][:, 0], found[i][:, 1]) * signs, f"s{place % GROUPS}", names[i])
        for place, i in enumerate(wanted)
        if len(found[i])
    ]
    return Figure(
        "attainment", "What the studies attained",
        "Each line is the border of what at least one, half and every one of the studies attained; lines near each other mean that "
        "studies find the same front.",
        f"{k} studies; " + ("all attain a common region." if len(found[-1]) else "no region is attained by all of them."),
        (Panel(x, y, tuple(marks), "", 280),),
        tuple((f"s{place % GROUPS}", names[i]) for place, i in enumerate(wanted)),
        ("study", "trials"),
        tuple((s.name, str(len(e))) for s, e in zip(studies, every, strict=True)),
    )  # fmt: skip
