"""``completion``: what makes a shell complete commands, options and names of studies."""

from __future__ import annotations

import click

from tunewright.cli.common import debug_option, emit, json_option

_HOW = {
    "bash": 'put this line into ~/.bashrc:  eval "$(tunewright completion bash)"',
    "zsh": 'put this line into ~/.zshrc:  eval "$(tunewright completion zsh)"',
    "fish": "run:  tunewright completion fish > ~/.config/fish/completions/tunewright.fish",
}


@click.command()
@click.argument("shell", type=click.Choice(list(_HOW)), required=False)
@json_option
@debug_option
def completion(shell: str | None, as_json: bool) -> None:
    """Print a script that makes the shell complete commands, options and names of studies.

    \b
    eval "$(tunewright completion bash)"     in ~/.bashrc
    eval "$(tunewright completion zsh)"      in ~/.zshrc
    tunewright completion fish > ~/.config/fish/completions/tunewright.fish
    """
    import os
    from pathlib import PurePath

    from click.shell_completion import get_completion_class

    from tunewright.cli import main
    from tunewright.cli.exits import say

    name = shell or PurePath(os.environ.get("SHELL", "bash")).name
    kind = get_completion_class(name if name in _HOW else "bash")
    assert kind is not None
    maker = kind(main, {}, "tunewright", "_TUNEWRIGHT_COMPLETE")
    # The class's own method asks the shell for its version first, which is a second process for nothing.
    text = maker.source_template % maker.source_vars()
    if as_json:
        emit({"shell": kind.name, "script": text})
        return
    click.echo(text)
    if shell is None:
        say(_HOW.get(name, _HOW["bash"]))
