"""``scale``: settings that survive a change of size. Each subcommand is imported when it is used."""

from __future__ import annotations

import importlib

import click

_COMMANDS = {
    "plan": ("scale_plan", "Show what a parametrization gives every tensor of a model at a size."),
    "check": ("scale_check", "Check that a parametrization does what it claims on a model."),
    "transfer": (
        "scale_transfer",
        "Settings of the target from a study of smaller models, or why there are none.",
    ),
    "predict": ("scale_predict", "Recommendations of every scaling law that applies, side by side."),
}


class Scales(click.Group):
    """The subcommands, imported one by one."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Their names in the order of the help."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports one; None for an unknown one."""
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"tunewright.cli.{_COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists them without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.command(cls=Scales)
def scale() -> None:
    """Tune a small model and train a large one: parametrizations, their checks, and scaling laws."""
