"""``checkpoints``: which files a study keeps, for whom, and which can go."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tunewright.cli.common import emit, open_study, reading, study_argument, table

if TYPE_CHECKING:
    from tunewright.study import Study


@click.command()
@study_argument
@click.option("--clean", is_flag=True, help="Remove files that no trial needs.")
@click.option(
    "--age", default="1h", show_default=True, metavar="TIME",
    help="How old such a file must be, such as 10min or 0; what is young may be on its way into the log.",
)  # fmt: skip
@click.option(
    "--keep", type=click.IntRange(0), metavar="N",
    help="Of completed trials keep the checkpoints of the best N only, once.",
)  # fmt: skip
@reading
def checkpoints(
    study: str | None, clean: bool, age: str, keep: int | None, storage: str | None, as_json: bool
) -> None:
    """List the checkpoints of a study: step, bytes, and the trials that need each one; remove what is not needed.

    What a trial can be resumed from is never removed.
    """
    from tunewright.core.units import seconds
    from tunewright.run.retention import Retention
    from tunewright.run.session import Policy

    old = 0.0 if age == "0" else seconds(age) or 0.0
    with open_study(study, storage, policy=Policy(keep=keep)) as opened:
        retention = Retention(opened.session)
        before = sum(size for _, size in retention.files())
        if keep is not None:
            opened.session.sync()
            retention.tidy()
        if clean:
            retention.clean(old)
        data = _data(opened, retention)
        freed = before - data["bytes"]
    if as_json:
        emit({**data, "freed": freed})
        return
    head = ("checkpoint", "step", "bytes", "needed by trials")
    rows = [
        (c["name"], c["step"], "missing" if c["bytes"] is None else c["bytes"], _few(c["trials"]))
        for c in data["checkpoints"]
    ]
    table(head, rows)
    click.echo(f"{len(rows)} checkpoints, {data['bytes']} bytes in {data['folder']}")
    if data["orphans"]:
        bytes_ = sum(o["bytes"] for o in data["orphans"])
        click.echo(
            f"{len(data['orphans'])} files, {bytes_} bytes, are needed by no trial; --clean removes old ones"
        )
    if clean or keep is not None:
        click.echo(f"{freed} bytes freed")


def _data(study: Study, retention: Any) -> dict[str, Any]:
    """The checkpoints and who needs them, as plain data."""
    from tunewright.store.depots import shown

    session = study.session
    sizes = dict(retention.files())
    found: dict[str, dict[str, Any]] = {}
    for trial in session.sync().trials:
        for step, name in {c for c in (trial.checkpoint, trial.fresh) if c is not None}:
            entry: dict[str, Any] = {"name": name, "step": step, "bytes": sizes.get(name), "trials": []}
            found.setdefault(name, entry)["trials"].append(trial.number)
    return {
        "study": study.name,
        "folder": shown(session.store.blobs(session.info.id)),
        "bytes": sum(sizes.values()),
        "checkpoints": list(found.values()),
        "orphans": [{"name": n, "bytes": s} for n, s in sorted(sizes.items()) if n not in found],
    }


def _few(trials: list[int], most: int = 8) -> str:
    words = [str(t) for t in trials[:most]]
    return ", ".join(words) + (f" and {len(trials) - most} more" if len(trials) > most else "")
