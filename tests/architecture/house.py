"""Where the tested files are, and how to read them; shared by the tests of this folder."""

from __future__ import annotations

import ast
import functools
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "tunewright"
CODE_FOLDERS = ("src", "tests", "benchmarks", "claims", "training", "examples", "docs", "tools", "ui")
TEXT_SUFFIXES = {
    ".py",
    ".md",
    ".toml",
    ".txt",
    ".yaml",
    ".yml",
    ".json",
    ".cfg",
    ".ini",
    ".sh",
    ".css",
    ".ts",
    ".tsx",
}


def python_files(*folders: str) -> Iterator[Path]:
    """Every Python file below the given folders of the repository, build output left out."""
    for folder in folders or CODE_FOLDERS:
        yield from (path for path in _below(ROOT / folder) if path.suffix == ".py")


def _below(folder: Path) -> list[Path]:
    """Every file below a folder, build output and installed libraries left out."""
    found: list[Path] = []
    for place, folders, files in os.walk(folder):
        folders[:] = [f for f in folders if f not in {"_build", "__pycache__", "node_modules", "vendor"}]
        found += [Path(place) / f for f in files]
    return sorted(found)


def text_files() -> Iterator[Path]:
    """Every hand-written text file of the repository."""
    top = [path for path in sorted(ROOT.iterdir()) if path.is_file()]
    nested = [path for folder in (*CODE_FOLDERS, ".ci") for path in _below(ROOT / folder)]
    for path in [*top, *nested]:
        if path.suffix in TEXT_SUFFIXES or path.name in {"Makefile", "NOTICE", "run"}:
            yield path


@functools.cache
def tree(path: Path) -> ast.Module:
    """The parsed file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def name(path: Path) -> str:
    """The path as written in messages: relative to the repository, with forward slashes."""
    return path.relative_to(ROOT).as_posix()


def every(paths: Iterable[Path]) -> Callable[[Callable[[Path], None]], Callable[[], None]]:
    """One test that checks every file and names all that are wrong; a test per file would cost more than the checks."""

    def made(check: Callable[[Path], None]) -> Callable[[], None]:
        def test() -> None:
            wrong = []
            for path in paths:
                try:
                    check(path)
                except AssertionError as error:
                    wrong.append(f"{name(path)}: {error}")
            assert not wrong, "\n".join(wrong)

        test.__name__, test.__doc__ = check.__name__, check.__doc__
        return test

    return made
