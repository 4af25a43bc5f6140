"""``slurm``: many Slurm jobs that run one command."""

from __future__ import annotations

import click

from tunewright.cli.common import debug_option, emit, json_option
from tunewright.errors import ConfigError


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--workers", type=click.IntRange(1), default=8, show_default=True, help="Jobs in the array.")
@click.option("--partition", metavar="NAME", help="Partition of the cluster.")
@click.option(
    "--time", "lasts", default="1h", show_default=True, metavar="TIME",
    help="Time limit of a job; one that reaches it goes on in a new one.",
)  # fmt: skip
@click.option("--cpus", type=click.IntRange(1), default=1, show_default=True, help="Cores of a job.")
@click.option("--gpus", type=click.IntRange(0), default=0, show_default=True, help="GPUs of a job.")
@click.option("--mem", metavar="SIZE", help="Memory of a job, such as 32GB.")
@click.option(
    "--at-once", type=click.IntRange(1), metavar="N", help="Jobs that may run at a time; all when not given."
)
@click.option(
    "--warning", default="90s", show_default=True, metavar="TIME",
    help="How long before its end a job is told to save.",
)  # fmt: skip
@click.option("--name", default="tunewright", show_default=True, help="Name of the jobs.")
@click.option(
    "--sbatch", multiple=True, metavar="KEY=VALUE", help="Further option of sbatch; may be repeated."
)
@click.option("--folder", metavar="FOLDER", help="Where jobs print to; .tunewright/jobs when not given.")
@click.option("--local", is_flag=True, help="Run the jobs on this machine, to try it out.")
@json_option
@debug_option
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="run|resume|worker ...")
def slurm(
    words: tuple[str, ...],
    workers: int,
    partition: str | None,
    lasts: str,
    cpus: int,
    gpus: int,
    mem: str | None,
    at_once: int | None,
    warning: str,
    name: str,
    sbatch: tuple[str, ...],
    folder: str | None,
    local: bool,
    as_json: bool,
) -> None:
    """Run a command of tunewright in many Slurm jobs; they share one study.

    \b
    tunewright slurm --workers 16 --time 4h --gpus 1 run --minimize loss --trials 500 \\
        --storage postgresql://db/tune -- python train.py --lr '{lr:log 1e-5..1e-1}'
    tunewright slurm --workers 8 resume mystudy
    tunewright slurm --workers 8 worker http://head:8000 mystudy train.py:train

    Before its time is over, or when it is pre-empted, a job lets its trials save and goes back into the queue. The store
    must be one that all nodes reach, named by --storage or TUNEWRIGHT_STORE.
    """
    from tunewright.run.slurm import FOLDER, submit

    jobs = submit(
        words,
        workers=workers,
        folder=folder or FOLDER,
        partition=partition,
        time=lasts,
        cpus=cpus,
        gpus=gpus,
        mem=mem,
        array_parallelism=at_once,
        warning=warning,
        name=name,
        local=local,
        **options_of(sbatch),
    )
    ids = [str(job.job_id) for job in jobs]
    if as_json:
        emit({"jobs": ids, "folder": str(folder or FOLDER)})
        return
    click.echo(f"{len(ids)} jobs submitted: {ids[0]}" + (f" to {ids[-1]}" if len(ids) > 1 else ""))
    click.echo(f"they print to {folder or FOLDER}; see how far the study is with: tunewright status")


def options_of(given: tuple[str, ...]) -> dict[str, str]:
    """``KEY=VALUE`` pairs by key, with or without the dashes in front.

    Raises:
        ConfigError: If one is none.
    """
    found = {}
    for text in given:
        key, equals, value = text.lstrip("-").partition("=")
        if not equals or not key:
            raise ConfigError(f"An option of sbatch must be KEY=VALUE; got {text!r}. Write account=physics.")
        found[key.replace("-", "_")] = value
    return found
