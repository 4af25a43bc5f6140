"""Commands that read: ``ls status show best trials compare methods explain``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tunewright.cli.common import (
    as_dict,
    command_of,
    debug_option,
    emit,
    existing,
    json_option,
    lines,
    looked_at,
    looking_at,
    open_study,
    reading,
    study_argument,
    table,
    when,
)
from tunewright.errors import ConfigError

if TYPE_CHECKING:
    from tunewright.core.scale import Scale
    from tunewright.core.trial import Trial
    from tunewright.study import Study
    from tunewright.view import View

STATUSES = (
    "running", "paused", "waiting", "completed", "stopped", "failed", "invalid", "timed_out", "out_of_memory",
    "lost", "killed",
)  # fmt: skip


@click.command()
@reading
def ls(storage: str | None, as_json: bool) -> None:
    """List the studies in the store."""
    from tunewright.store.urls import open_store

    store = open_store(existing(storage))
    try:
        infos = sorted(store.studies(), key=lambda s: s.created)
        found = [{**_state(looked_at(store, info)), "created": info.created} for info in infos]
    finally:
        store.close()
    if as_json:
        emit(found)
        return
    head = ("study", "created", "trials", "completed", "running", "best", "method")
    table(
        head,
        [
            (s["study"], when(s["created"]), s["trials"], s["counts"].get("completed", 0),
             s["counts"].get("running", 0), _values(s["best"]), s["method"])
            for s in found
        ],
    )  # fmt: skip


def _values(best: dict[str, Any] | None) -> str:
    from tunewright.analysis.pace import pairs

    return "" if best is None else pairs(best["objectives"])


def _state(study: View) -> dict[str, Any]:
    """How far a study is, as plain data."""
    from tunewright.cli.outcome import best_of

    best = best_of(study)
    names = [o.name for o in study.problem.objectives]
    return {
        "study": study.name,
        "storage": study.session.store.url,
        "method": study.method,
        "objectives": {o.name: o.goal for o in study.problem.objectives},
        "trials": len(study.trials),
        "counts": study.counts,
        "queued": len(study.session.ledger.queue),
        "control": study.session.ledger.control,
        "records": study.session.ledger.cursor,
        "best": None
        if best is None
        else {
            **as_dict(best, study.problem.scale),
            "objectives": {n: best.metrics[n] for n in names if n in best.metrics},
        },
    }


@click.command()
@study_argument
@reading
def status(study: str | None, storage: str | None, as_json: bool) -> None:
    """Say how far a study is: trials by status, who runs what, the best so far."""
    from tunewright.analysis.pace import pairs

    with open_study(study, storage) as opened:
        state = _state(opened)
        running = [as_dict(t, opened.problem.scale) for t in opened.session.ledger.running.values()]
    if as_json:
        emit({**state, "running": running})
        return
    counts = ", ".join(f"{n} {s.replace('_', ' ')}" for s, n in state["counts"].items())
    best = state["best"]
    lines(
        {
            "study": state["study"],
            "goal": ", ".join(f"{g} {n}" for n, g in state["objectives"].items()),
            "method": state["method"],
            "trials": f"{state['trials']}" + (f" ({counts})" if counts else ""),
            "queued": state["queued"] or None,
            "told": {"pause": "to pause; tunewright resume takes it back", "stop": "to stop"}.get(
                state["control"]
            ),
            "best": f"trial {best['number']}: {_values(best)}  {pairs(best['params'])}"
            if best
            else "none yet",
        }
    )
    for trial in running:
        at = f"step {trial['step']}" if "place" not in trial else trial["place"]["words"]
        step = f" {at}" if trial["step"] else ""
        click.echo(
            f"running  trial {trial['number']}{step} since {when(trial['started'])}  {pairs(trial['params'])}"
        )


@click.command()
@study_argument
@click.argument("number", required=False, type=int)
@reading
def show(study: str | None, number: int | None, storage: str | None, as_json: bool) -> None:
    """Show a study with its space and method, or one of its trials with its reports and error."""
    with open_study(study, storage) as opened:
        if number is not None:
            _show_trial(trial_of(opened, number), opened.problem.scale, as_json)
            return
        spec = opened.session.info.spec
        fidelity = opened.problem.fidelity
        data = {
            **_state(opened),
            "created": opened.session.info.created,
            "why": spec.get("why", ""),
            "seed": opened.problem.seed,
            "steps": None if fidelity is None else [fidelity.low, fidelity.high],
            "scale": None if opened.problem.scale is None else opened.problem.scale.to_dict(),
            "space": opened.space.to_dict(),
            "versions": len(opened.session.ledger.spaces),
            "run": command_of(opened),
            "notes": [
                {"position": seq, **n.data}
                for seq, n in opened.session.ledger.notes
                if n.topic in ("note", "stopped")
            ],
        }
        if as_json:
            emit(data)
            return
        _show_study(data, opened)


def _show_study(data: dict[str, Any], study: Study) -> None:
    import shlex

    from tunewright.core.columns import describe

    run = data["run"] or {}
    best = data["best"]
    scale = study.problem.scale
    steps = "" if data["steps"] is None else f"{data['steps'][0]}..{data['steps'][1]}"
    lines(
        {
            "study": data["study"],
            "store": data["storage"],
            "created": when(data["created"]),
            "goal": ", ".join(f"{g} {n}" for n, g in data["objectives"].items()),
            "method": data["method"] + (f": {data['why']}" if data["why"] else ""),
            "seed": data["seed"],
            "steps": steps if scale is None else "",
            **({} if scale is None else _sizes(scale)),
            "runs": shlex.join(run["argv"]) if run.get("argv") else run.get("function", ""),
            "trials": ", ".join(f"{n} {s.replace('_', ' ')}" for s, n in data["counts"].items())
            or "none yet",
            "space": f"{len(study.space.entries)} {'parameter' if len(study.space.entries) == 1 else 'parameters'}"
            + (f", version {data['versions']}" if data["versions"] > 1 else ""),
        }
    )
    for entry in study.space.entries:
        click.echo(f"        {entry.path}: {describe(entry.domain)}")
    if study.space.sampling == "chain":
        click.echo(
            "        constraints: hardly any draw meets them; configurations come from a chain of allowed ones"
        )
    if best:
        at = "" if scale is None else f" at {best['place']['words']}"
        click.echo(f"best     trial {best['number']}: {_values(best)}{at}")
    for note in data["notes"]:
        click.echo(f"note     {note.get('text', '')}")


def _sizes(scale: Scale) -> dict[str, str]:
    """What is tuned on the way to what."""
    from tunewright.core.scale import named

    last = scale.target_steps
    proxies = [f"{s.name} ({s.steps:,})" if s.steps > 1 else s.name for s in scale.stages]
    return {
        "target": named(scale.target) + (f" ({last:,} steps)" if last > 1 else ""),
        "proxies": "; ".join(proxies),
        "rules": ", ".join(scale.rules),
    }


def trial_of(study: Study, number: int) -> Trial:
    """The trial of that number.

    Raises:
        ConfigError: If there is none.
    """
    trials = study.trials
    if not 0 <= number < len(trials):
        raise ConfigError(
            f"A trial must be one of the study's; got {number}, and '{study.name}' has {len(trials)}. "
            f"See tunewright trials."
        )
    return trials[number]


def _show_trial(trial: Trial, scale: Scale | None, as_json: bool) -> None:
    from tunewright.analysis.pace import pairs

    reports = [{"step": r.step, **r.metrics} for r in trial.reports]
    if as_json:
        emit({**as_dict(trial, scale), "reports": reports, "checkpoint": trial.checkpoint})
        return
    lines(
        {
            "trial": trial.number,
            "status": trial.status.replace("_", " "),
            "params": pairs(trial.params),
            "metrics": pairs(trial.metrics),
            **({"step": trial.step or None} if scale is None else {"size": scale.words(trial.step)}),
            "cost": trial.cost,
            "attempts": trial.attempts,
            "started": when(trial.at),
            "ended": when(trial.ended_at),
            "by": trial.start.by,
            "why": pairs(trial.why),
        }
    )
    for report in reports:
        at = "" if scale is None else f"{scale.words(int(report.pop('step')))}: "
        click.echo(f"  {at}{pairs(report)}")
    if trial.error:
        click.echo(trial.error)


@click.command()
@study_argument
@click.option(
    "--as", "form", type=click.Choice(["text", "command", "params"]), default="text", help="How to print it."
)
@reading
def best(study: str | None, form: str, storage: str | None, as_json: bool) -> None:
    """Show the best trial; with --as command only the command line or call that trains with it."""
    import json

    from tunewright.analysis.pace import pairs
    from tunewright.cli import outcome
    from tunewright.core.scale import named

    with looking_at(study, storage) as opened:
        front = opened.pareto if opened.problem.m > 1 else []
        trial = front[0] if front else outcome.to_use(opened)
        if trial is None:
            raise ConfigError(
                f"best needs a trial with a result; '{opened.name}' has none yet. Run it first."
            )
        use, scale = outcome.usage(opened, trial), opened.problem.scale
        if as_json:
            known = outcome.truth(opened)
            others = [as_dict(t, scale) for t in front] or None
            emit({**as_dict(trial, scale), "use": use, "front": others, "truth": known})
        elif form == "command":
            click.echo(use)
        elif form == "params":
            click.echo(json.dumps(trial.params, ensure_ascii=False))
        elif front:
            _trials(front, [o.name for o in opened.problem.objectives], scale)
        else:
            gain = outcome.gain(opened, trial)
            shown = {
                "trial": trial.number,
                "metrics": pairs(trial.metrics),
                "": gain,
                "params": pairs(trial.params),
            }
            if scale is not None:
                shown["size"] = scale.words(trial.step)
            lines({**shown, "use": use})
            if scale is not None:
                click.echo(
                    f"It is a proxy's; for {named(scale.target)}: tunewright scale transfer {opened.name}"
                )
            for sentence in outcome.truth(opened):
                click.echo(sentence)


@click.command()
@study_argument
@click.option("--status", "wanted", type=click.Choice(STATUSES), help="Only those with this status.")
@click.option("--limit", type=click.IntRange(1), help="Only the newest, or with --best the best.")
@click.option("--best", "ranked", is_flag=True, help="Best first.")
@reading
def trials(
    study: str | None, wanted: str | None, limit: int | None, ranked: bool, storage: str | None, as_json: bool
) -> None:
    """List the trials of a study."""
    with open_study(study, storage) as opened:
        problem = opened.problem
        found = [t for t in opened.trials if wanted is None or t.status == wanted]
    if ranked:
        scored = [(x[0], t.number, t) for t in found if (x := problem.losses(t.metrics)) is not None]
        found = [t for _, _, t in sorted(scored, key=lambda s: s[:2])][:limit]
    elif limit is not None:
        found = found[-limit:]
    if as_json:
        emit([as_dict(t, problem.scale) for t in found])
    else:
        _trials(found, [o.name for o in problem.objectives], problem.scale)


def _trials(found: list[Trial], objectives: list[str], scale: Scale | None) -> None:
    names = list(dict.fromkeys(n for t in found for n in t.config))
    others = list(dict.fromkeys(n for t in found for n in t.metrics if n not in objectives))[:4]
    metrics = [*objectives, *others]
    failed = any(t.error for t in found)
    sizes = [] if scale is None else ["size"]
    head = ["trial", "status", *sizes, *metrics, *names, *(["error"] if failed else [])]
    rows = [
        [t.number, t.status.replace("_", " "), *([] if scale is None else [scale.words(t.step)]), *(t.metrics.get(m) for m in metrics), *(t.config.get(n) for n in names),
         *([t.error.strip().rpartition("\n")[2]] if failed else [])]
        for t in found
    ]  # fmt: skip
    table(head, rows)


@click.command()
@click.argument("left")
@click.argument("right")
@reading
def compare(left: str, right: str, storage: str | None, as_json: bool) -> None:
    """Put two studies side by side: what they found, and how soon."""
    from tunewright.analysis.compare import compare as compared
    from tunewright.analysis.compare import summary

    with open_study(left, storage) as a, open_study(right, storage) as b:
        sides = [summary(s.name, s.method, s.problem, s.trials) for s in (a, b)]
        data = compared(sides[0], sides[1], a.space.diff(b.space))
    if as_json:
        emit(data)
        return
    keys = ("method", "trials", "completed", "failed", "cost", "best", "best_trial")
    one, two = data["left"], data["right"]
    table(("", one["name"], two["name"]), [(k.replace("_", " "), one[k], two[k]) for k in keys])
    click.echo("")
    table(
        ("best after", one["name"], two["name"]),
        [(m["trials"], m["left"], m["right"]) for m in data["after"]],
    )
    for change in data["space"]:
        click.echo(f"space   {change}")
    if not data["comparable"]:
        click.echo("They optimise different things.")
    elif data["better"]:
        click.echo(
            f"{data['better']} found the better value; one pair of studies proves nothing, repeat with other seeds."
        )


@click.command()
@click.argument("name", required=False)
@click.option(
    "--inside", is_flag=True, help="Those that tune inside one run, by gradient (tunewright.hypergrad)."
)
@click.option(
    "--removing",
    is_flag=True,
    help="Those that make a learning rate, schedule or batch size unnecessary (tunewright.optim).",
)
@click.option(
    "--predicting",
    is_flag=True,
    help="Those that take settings from smaller models, less data or published laws (tunewright.scaling).",
)
@json_option
@debug_option
def methods(name: str | None, inside: bool, removing: bool, predicting: bool, as_json: bool) -> None:
    """List the methods, with their papers and when to use them; or describe one."""
    import dataclasses
    import inspect

    from tunewright import catalog

    known = name is not None and name in catalog.METHODS
    inside = inside or (not known and not removing and not predicting and name in catalog.INSIDE)
    removing = removing or (not known and not predicting and name in catalog.REMOVING)
    predicting = predicting or (not known and name in catalog.PREDICTING)
    if inside or removing or predicting:
        from tunewright.cli.elsewhere import show

        show("inside" if inside else "removing" if removing else "predicting", name, as_json)
        return
    found = [catalog.find(name)] if name else list(catalog.METHODS.values())
    if as_json:
        emit([dataclasses.asdict(m) for m in found])
    elif name:
        method = found[0]
        lines({"method": method.name, "kind": method.kind, "family": method.family, "paper": method.paper})
        click.echo(f"\n{method.summary} {method.when}\n")
        click.echo(inspect.getdoc(method.load()) or "")
    else:
        for family in dict.fromkeys(m.family for m in found):
            click.echo(f"{family}:")
            for m in (m for m in found if m.family == family):
                click.echo(
                    f"  {m.name.ljust(12)} {m.summary}\n  {''.ljust(12)} {m.when}\n  {''.ljust(12)} {m.paper}"
                )
        click.echo("auto chooses among them and says why; tunewright methods NAME describes one.")
        click.echo("Inside one run, by gradient: tunewright methods --inside.")
        click.echo("Without a learning rate to choose: tunewright methods --removing.")
        click.echo("From smaller models and published laws: tunewright methods --predicting.")


@click.command()
@click.argument("code")
@json_option
@debug_option
def explain(code: str, as_json: bool) -> None:
    """Explain an error code, such as TW041."""
    from tunewright.cli.explain import entry

    found = entry(code)
    if as_json:
        emit(found)
        return
    click.echo(f"{found['code']} {found['name']}\n\n{found['meaning']}\n\n{found['remedy']}")
