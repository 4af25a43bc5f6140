"""The command line. Each command parses, calls the study, prints; it is imported when it is used."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from keyword import iskeyword
from typing import Any

import click

from tunewright import __version__

_SECTIONS: dict[str, dict[str, tuple[str, str]]] = {
    "Run": {
        "demo": ("demo", "Tune a real model on this machine in about a minute."),
        "run": ("running", "Tune a script, a command or a Python function; the same command continues it."),
        "resume": ("running", "Continue a study that was started with run."),
        "init": ("initing", "Write a sweep file from the options of a script."),
        "create": ("creating", "Make a study without running it, for workers."),
        "pause": ("steering", "Begin no more trials until resume; running ones go on."),
        "stop": ("steering", "End every run of a study; trials save and can be continued."),
        "ask": ("handing", "Get the next trial, to train it yourself."),
        "tell": ("handing", "Give back the result of a trial from ask."),
        "enqueue": ("handing", "Have a configuration tried next."),
    },
    "Serve": {
        "dashboard": ("dashboard", "Show the studies in a browser, live."),
        "share": ("dashboard", "Make an address that lets somebody look at one study, for a while."),
        "serve": ("serving", "Serve the studies of a store over HTTP."),
        "worker": ("working", "Train trials of a study that lives on a server or in a store."),
        "submit": ("creating", "Submit workers for a study as Slurm jobs."),
        "slurm": ("slurm", "Run one of these commands in many Slurm jobs."),
        "mcp": ("mcp", "Let a language agent look at studies, and run searches if you allow it."),
        "token": ("serving", "Make, list, replace and revoke the tokens of a server."),
    },
    "Look": {
        "ls": ("looking", "List the studies."),
        "status": ("looking", "Say how far a study is."),
        "watch": ("watching", "Follow a study that runs elsewhere, live."),
        "show": ("looking", "Show a study, or one of its trials, in full."),
        "best": ("looking", "Show the best trial, also as a command line."),
        "trials": ("looking", "List the trials of a study."),
        "lineage": ("lineage", "Show which trials are copies of which, and the schedule behind the best."),
        "confirm": ("confirming", "Train the best few again on fresh seeds and say which is best."),
        "compare": ("looking", "Put two studies side by side."),
        "importance": ("drawing", "Rank the parameters by how much they matter."),
        "space": ("refining", "Show the space of a study, or propose a smaller one for the next."),
        "plot": ("drawing", "Draw a chart of a study into a file."),
        "report": ("confirming", "Write a study as one HTML page."),
        "export": ("drawing", "Write the trials to a file."),
    },
    "Keep": {
        "import": ("importing", "Bring a study of Optuna, Weights & Biases or a table into the store."),
        "note": ("steering", "Keep a note about a study or a trial, or show the notes."),
        "tag": ("steering", "Put tags on a study or a trial, or take them off."),
        "backup": ("copying", "Copy the whole store into one checked file, while everybody goes on."),
        "copy": ("copying", "Copy a study to another store, of any kind, and prove that it is the same."),
        "checkpoints": ("keeping", "List the checkpoints of a study and who needs them; remove the others."),
        "vacuum": ("vacuuming", "Give the disk back what nobody needs."),
        "delete": ("vacuuming", "Delete a study."),
    },
    "Check": {
        "doctor": (
            "checking",
            "Check the store, its studies, checkpoints and the installation; repair what is damaged.",
        ),
        "replay": ("checking", "Take every decision of a study again and compare."),
        "scale": (
            "scale",
            "Tune a small model and train a large one: parametrizations, checks, scaling laws.",
        ),
        "methods": ("looking", "List the methods, with their papers and when to use them."),
        "explain": ("looking", "Explain an error code."),
        "completion": ("completing", "Print what makes the shell complete commands and study names."),
    },
}
_COMMANDS = {name: entry for section in _SECTIONS.values() for name, entry in section.items()}

EXITS = """Exit codes: 0 done; 1 internal error or failed check; 2 wrong usage or configuration; 3 no trial succeeded; 4 the
failure policy gave up; 5 the store cannot be used; 6 the space is not that of the study; 7 the target was not
reached (with --require); 130, 143, 129 interrupted by a signal, or by stop (130): the state is saved and the same command continues."""


class Commands(click.Group):
    """The root command; its subcommands are imported one by one, when they are used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the subcommands in the order of the help."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports a subcommand; None for an unknown one."""
        entry = _COMMANDS.get(cmd_name)
        if entry is None:
            return None
        command: click.Command = getattr(
            importlib.import_module(f"tunewright.cli.{entry[0]}"), cmd_name + "_" * iskeyword(cmd_name)
        )
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the subcommands by section without importing them."""
        for section, commands in _SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(name, text) for name, (_, text) in commands.items()])

    def main(self, args: Sequence[str] | None = None, *rest: Any, **extra: Any) -> Any:
        """Runs a command line and exits; see the exit codes in the help."""
        from tunewright.cli.exits import guarded

        given = list(sys.argv[1:] if args is None else args)
        extra["standalone_mode"] = False
        extra.setdefault("prog_name", "tunewright")
        debug = "--debug" in given[: given.index("--") if "--" in given else None]
        sys.exit(guarded(lambda: super(Commands, self).main(given, *rest, **extra), debug=debug))


@click.command(cls=Commands, epilog=EXITS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tunewright")
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")
def main() -> None:
    """Tunewright chooses hyperparameters.

    Start with `tunewright demo`, or tune a script unchanged:

    tunewright run --minimize loss --trials 40 -- python train.py --lr '{lr:log 1e-5..1e-1}'
    """
