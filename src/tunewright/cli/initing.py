"""``init``: writes a sweep file for a script that exists, with comments, from the options that the script declares."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tunewright.cli.common import debug_option, emit, json_option
from tunewright.errors import ConfigError

if TYPE_CHECKING:
    from tunewright.cli.guessing import Option

_SCHEMA = ".tunewright/sweep.schema.json"


@click.command()
@click.argument("script", required=False)
@click.option(
    "-o",
    "--output",
    default="sweep.toml",
    show_default=True,
    metavar="FILE",
    help="File to write; - prints it.",
)
@click.option("--force", is_flag=True, help="Replace the file when it exists.")
@click.option(
    "--run-help",
    is_flag=True,
    help="Run the script with --help and read that, for options that are made while it runs.",
)
@click.option(
    "--timeout", metavar="TIME", default="20s", show_default=True, help="Longest that --help may take."
)
@click.option("--schema", is_flag=True, help="Print the JSON Schema of sweep files instead.")
@json_option
@debug_option
def init(
    script: str | None, output: str, force: bool, run_help: bool, timeout: str, schema: bool, as_json: bool
) -> None:
    """Write a commented sweep file from the options of a script; the script is read and not run.

    \b
    tunewright init train.py          writes sweep.toml; look through it, then: tunewright run sweep.toml
    tunewright init train.py -o -     prints it
    """
    from tunewright.cli import schema as schemas

    if schema:
        click.echo(schemas.text(), nl=False)
        return
    if script is None:
        raise ConfigError("init needs a script; got none. Write: tunewright init train.py.")
    path, target = Path(script), Path(output)
    source = _read(path)
    if output != "-" and target.exists() and not force:
        raise ConfigError(
            f"init writes a new file; '{output}' exists. Pass --force to replace it, or -o OTHER.toml."
        )
    options = _listed(path, source, run_help, timeout)
    text, tuned = written(path, source, options)
    if output == "-":
        click.echo(text, nl=False)
        return
    _save(Path(_SCHEMA), schemas.text())
    target.write_text(text, encoding="utf-8")
    if as_json:
        emit({"file": output, "script": script, "options": len(options), "tuned": tuned})
        return
    click.echo(f"{output}: {len(tuned)} of {len(options)} options to be tuned: {', '.join(tuned) or 'none'}")
    click.echo(f"next    look through it, then: tunewright run {shlex.quote(output)}")


def _save(path: Path, text: str) -> None:
    path.parent.mkdir(exist_ok=True)
    ignore = path.parent / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n", encoding="utf-8")
    path.write_text(text, encoding="utf-8")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"A script must be readable; '{path}' gave '{error}'. Correct the path.") from None


def _listed(path: Path, source: str, run_help: bool, timeout: str) -> list[Option]:
    """The options of the script, from its source, or from its help."""
    from tunewright.cli import guessing
    from tunewright.core.units import seconds

    if run_help:
        command = [sys.executable, str(path)] if path.suffix == ".py" else [str(path.absolute())]
        try:
            done = subprocess.run(  # noqa: S603 - the user's own script, and only when asked for
                [*command, "--help"], capture_output=True, text=True, timeout=seconds(timeout), check=False
            )
        except (OSError, subprocess.SubprocessError) as error:
            raise ConfigError(
                f"A script must answer --help; '{path}' gave '{error}'. Leave out --run-help."
            ) from None
        found = guessing.options_of_help(done.stdout)
    else:
        try:
            found = guessing.options_of(source)
        except SyntaxError as error:
            raise ConfigError(
                f"A script must be Python to be read; '{path}' gave '{error}'. Pass --run-help to ask it for its options."
            ) from None
    if not found:
        how = (
            "its --help names none"
            if run_help
            else "it declares none with argparse or click. Pass --run-help"
        )
        raise ConfigError(f"init needs a script with options; '{path}': {how}, or write the file by hand.")
    return found


def written(path: Path, source: str, options: list[Option]) -> tuple[str, list[str]]:
    """The text of a sweep file, and the names of what it tunes.

    Args:
        path: The script.
        source: Its text.
        options: Its options.
    """
    from tunewright.cli import guessing

    try:
        metric = guessing.metric_of(source)
    except SyntaxError:
        metric = None
    name, goal = metric or ("loss", "minimize")
    said = {o.name: guessing.declaration(o) for o in options}
    tuned = [o for o in options if guessing.worth(o) and said[o.name] is not None]
    held = [o for o in options if o not in tuned]
    lines = [
        f"#:schema {_SCHEMA}",
        f"# A sweep over {path.name}. Look through it, then: tunewright run FILE. Running it again continues it.",
        "",
        f"name = {_quoted(path.stem)}",
        f"command = {_quoted(_command(path, options, tuned))}",
        "",
        "# What to optimise; the script prints it as NAME=0.93, NAME: 0.93 or in a line of JSON."
        + ("" if metric else " Put the right name here."),
        f"{goal} = {_quoted(name)}",
        "",
        "# Ends weak trials early, where the script prints its metric after every epoch.",
        '# early_stop = "asha"',
        "# steps = 30",
        "",
        "# One line per parameter: a range, [low, high], or a list of options. The default is tried first.",
        "[space]",
    ]
    width = max((len(o.name) for o in tuned), default=0)
    for option in tuned:
        note = f"  # {option.help[:80]}" if option.help else ""
        lines.append(f"{_key(option.name).ljust(width)} = {said[option.name]}{note}")
    if held:
        lines += ["", "# Not tuned; to tune one, give it bounds here and put {NAME} into the command:"]
        lines += [f"# {o.name}: {_about(o)}" for o in held]
    lines += [
        "",
        "[run]",
        "trials = 40",
        "# workers = 2                        # trials at a time",
        '# budget = "8h"                      # or a time',
        '# gpus = "all"                       # one trial on each GPU',
        '# metrics = "jsonl:metrics.jsonl"    # or regex:PATTERN, or tb:FOLDER; stdout when not given',
        "# retry = { lost = 2, oom = 0 }      # attempts more, by what went wrong",
    ]
    return "\n".join(lines) + "\n", [o.name for o in tuned]


def _command(path: Path, options: list[Option], tuned: list[Option]) -> str:
    """The command line, with places for what is tuned."""
    words = ["python", str(path)] if path.suffix == ".py" else [f"./{path}"]
    words = [shlex.quote(w) for w in words]
    for option in options:
        place = (
            f"{{{option.name}}}" if option in tuned else "{seed}" if option.name == "seed" else _fixed(option)
        )
        if place is not None:
            words.append(f"{option.flag} {place}" if option.flag.startswith("-") else place)
    return " ".join(words)


def _fixed(option: Option) -> str | None:
    """What the command says of an option that is not tuned: its length of training, or what the script needs."""
    from tunewright.cli.wishes import steps_of

    if option.required:
        return "VALUE"
    text = str(option.default)
    return text if steps_of([option.flag, text]) is not None else None


def _about(option: Option) -> str:
    told = [option.kind, f"default {option.default}" if option.default is not None else "", option.help[:80]]
    return ", ".join(t for t in told if t)


def _key(name: str) -> str:
    return name if name.replace("_", "").replace("-", "").isalnum() else _quoted(name)


def _quoted(text: str) -> str:
    import json

    return json.dumps(text, ensure_ascii=False)
