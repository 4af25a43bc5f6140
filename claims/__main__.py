"""``python -m claims table | run NAME... | run --all | page``."""

from __future__ import annotations

import argparse
import sys

from claims import page
from claims.record import check, names, stored


def main(argv: list[str] | None = None) -> int:
    """Runs the command line; returns 1 when a claim that held before no longer does."""
    parser = argparse.ArgumentParser(prog="python -m claims", description="Checks published claims.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("table", help="list the claims and their verdicts")
    run = commands.add_parser("run", help="check claims and store the results")
    run.add_argument("names", nargs="*", metavar="NAME")
    run.add_argument("--all", action="store_true", help="check every claim")
    run.add_argument("--quick", action="store_true", help="fewer tasks and seeds; nothing is stored")
    commands.add_parser("page", help="write docs/methods/claims.md")
    given = parser.parse_args(argv)
    if given.command == "table":
        for name, verdict, title in page.table():
            print(f"{name:<12} {verdict:<24} {title}")
        return 0
    if given.command == "page":
        print(page.write())
        return 0
    chosen = names() if given.all else given.names
    if not chosen:
        parser.error(f"Name a claim, or say --all; there are {', '.join(names())}.")
    lost = 0
    for name in chosen:
        before = stored(name)
        record = check(name, quick=given.quick)
        print(f"{name}: {record['verdict']} ({record['cpu_seconds']} CPU s). {record['summary']}", flush=True)
        held = before is not None and str(before["verdict"]).startswith("holds")
        lost += held and not given.quick and record["verdict"] == "not reproduced"
    return int(lost > 0)


if __name__ == "__main__":
    sys.exit(main())
