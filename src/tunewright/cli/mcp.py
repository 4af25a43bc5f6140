"""``mcp``: a server through which a language agent looks at studies and, where allowed, runs searches."""

from __future__ import annotations

import sys

import click

from tunewright.cli.common import debug_option, emit, json_option, storage_option


@click.command()
@click.option(
    "--allow-run",
    is_flag=True,
    help="Let the agent create, run, stop and enqueue: it can run any command here.",
)
@click.option(
    "--max-trials",
    type=click.IntRange(1),
    default=200,
    show_default=True,
    help="Trials that one run may have.",
)
@click.option(
    "--max-time", metavar="TIME", default="1h", show_default=True, help="Time that one run may take."
)
@storage_option
@json_option
@debug_option
def mcp(allow_run: bool, max_trials: int, max_time: str, storage: str | None, as_json: bool) -> None:
    """Serve the studies to a language agent, as an MCP server on standard input and output.

    The agent can look at everything and change nothing, unless --allow-run is given. With --json the tools are listed
    instead, with their arguments.
    """
    from tunewright.core.units import seconds
    from tunewright.integrations.mcp.runs import Runs
    from tunewright.integrations.mcp.tools import Desk

    runs = Runs(storage) if allow_run else None
    desk = Desk(storage, runs, max_trials, seconds(max_time) or 3600.0)
    if as_json:
        emit([tool.describe() for tool in desk.tools()])
        return
    out = sys.stdout.buffer
    # What a library prints must not end up between the answers.
    sys.stdout = sys.stderr
    try:
        desk.server().serve(sys.stdin.buffer, out)
    finally:
        if runs is not None:
            runs.close()
