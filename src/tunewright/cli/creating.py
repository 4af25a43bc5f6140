"""``create`` and ``submit``: a study that others will run, and jobs that run it."""

from __future__ import annotations

import shlex
from typing import Any

import click

from tunewright.cli.common import (
    command_of,
    debug_option,
    emit,
    json_option,
    newest,
    open_study,
    storage_option,
)
from tunewright.cli.options import sweep_options
from tunewright.errors import ConfigError


@click.command()
@sweep_options
@click.option("--json", "as_json", is_flag=True, help="Print what was made as one JSON document.")
@storage_option
@debug_option
def create(words: tuple[str, ...], as_json: bool, new: bool, space_change: str, **given: Any) -> None:
    """Make a study without running it; workers get their trials from it.

    \b
    tunewright create sweep.toml --seeds 3
    tunewright create --minimize loss -- python train.py --lr '{lr:log 1e-5..1e-1}'

    Takes what `tunewright run` takes. Making it again with another space makes a new version of the space.
    """
    from tunewright.cli.running import declared_by, opened, remember, transferred
    from tunewright.cli.sweep import load_function, sweep_of
    from tunewright.core.declare import space_from

    given["failures"] = "1" if given.pop("fail_fast") else given["failures"]
    transferred_from = given.pop("transfer_from")
    sweep = sweep_of(words, given, here=False)
    if transferred_from:
        transferred(sweep, transferred_from)
    declared: Any = sweep.space
    if declared is None:
        declared = declared_by(sweep, load_function(sweep.function) if sweep.function else None)
    with opened(sweep, declared, new, space_change) as study:
        defaults = space_from(declared).defaults
        if defaults and not study.trials and not study.session.ledger.queue:
            study.session.enqueue(defaults, key="defaults", by="defaults")
        remember(study, sweep)
        data = {
            "study": study.name,
            "storage": study.session.store.url,
            "method": study.method,
            "trials": len(study.trials),
            "space": study.space.to_dict(),
        }
    if as_json:
        emit(data)
        return
    name = shlex.quote(str(data["study"]))
    count = len(study.space.entries)
    click.echo(
        f"{data['study']}: {count} {'parameter' if count == 1 else 'parameters'}, method {data['method']}"
    )
    click.echo(
        f"next    tunewright worker {name}, on as many machines as you like; then tunewright watch {name}"
    )


@click.command()
@click.argument("study", required=False)
@click.option(
    "--slurm", "kind", flag_value="slurm", default="slurm", help="As an array of Slurm jobs (the default)."
)
@click.option("--local", "kind", flag_value="local", help="As processes on this machine, to try it out.")
@click.option("--workers", type=click.IntRange(1), default=8, show_default=True, help="Jobs in the array.")
@click.option("--time", "lasts", default="1h", show_default=True, metavar="TIME", help="Time limit of a job.")
@click.option("--partition", metavar="NAME", help="Partition of the cluster.")
@click.option("--cpus", type=click.IntRange(1), default=1, show_default=True, help="Cores of a job.")
@click.option("--gpus", type=click.IntRange(0), default=0, show_default=True, help="GPUs of a job.")
@click.option("--gres", metavar="WHAT", help="What else a job needs, as Slurm says it, such as gpu:1.")
@click.option("--mem", metavar="SIZE", help="Memory of a job, such as 32GB.")
@click.option("--at-once", type=click.IntRange(1), metavar="N", help="Jobs that may run at a time.")
@click.option("--trials", metavar="N", type=click.IntRange(1), help="Trials the study is to have in all.")
@click.option(
    "--warning", default="90s", show_default=True, metavar="TIME",
    help="How long before its end a job is told to save.",
)  # fmt: skip
@click.option(
    "--sbatch", multiple=True, metavar="KEY=VALUE", help="Further option of sbatch; may be repeated."
)
@click.option("--folder", metavar="FOLDER", help="Where jobs print to; .tunewright/jobs when not given.")
@storage_option
@json_option
@debug_option
def submit(
    study: str | None,
    kind: str,
    workers: int,
    lasts: str,
    gres: str | None,
    at_once: int | None,
    trials: int | None,
    sbatch: tuple[str, ...],
    folder: str | None,
    storage: str | None,
    as_json: bool,
    **given: Any,
) -> None:
    """Submit workers for a study that `tunewright create` or `run` has made; each is a job.

    \b
    tunewright submit resnet --slurm --workers 64 --time 4h --gres gpu:1
    tunewright submit resnet --local --workers 2

    The study must be in a store that all nodes reach: TUNEWRIGHT_SERVER, TUNEWRIGHT_STORE or --storage. Before its time
    is over a job lets its trials save, and goes back into the queue.
    """
    from tunewright.cli.common import existing, file_of
    from tunewright.cli.slurm import options_of
    from tunewright.run.slurm import FOLDER
    from tunewright.run.slurm import submit as submitted

    where = existing(storage)
    name = study or newest(where)
    with open_study(name, where) as found:
        if command_of(found) is None:
            raise ConfigError(
                f"submit needs a study that says what to run; '{name}' was made from Python. Use: tunewright slurm "
                f"worker ADDRESS {shlex.quote(name)} train.py:function."
            )
    words = ["worker", where if where is not None else file_of(None), name, "--command-from-study"]
    words += ["--trials", str(trials)] if trials is not None else []
    more: dict[str, Any] = {**({"gres": gres} if gres else {}), **options_of(sbatch)}
    jobs = submitted(
        words,
        workers=workers,
        folder=folder or FOLDER,
        time=lasts,
        array_parallelism=at_once,
        name=name,
        local=kind == "local",
        **given,
        **more,
    )
    ids = [str(job.job_id) for job in jobs]
    if as_json:
        emit({"study": name, "jobs": ids, "folder": str(folder or FOLDER)})
        return
    click.echo(
        f"{len(ids)} {'job' if len(ids) == 1 else 'jobs'} submitted for '{name}': {ids[0]}"
        + (f" to {ids[-1]}" if len(ids) > 1 else "")
    )
    click.echo(f"next    tunewright watch {shlex.quote(name)}")
