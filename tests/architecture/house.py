"""Where the tested files are, and how to read them; shared by the tests of this folder."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "src" / "tunewright"
CODE_FOLDERS = ("src", "tests", "benchmarks", "claims", "training", "examples", "docs")
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
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "_build" not in path.parts and "__pycache__" not in path.parts:
                yield path


def text_files() -> Iterator[Path]:
    """Every hand-written text file of the repository."""
    top = [path for path in sorted(ROOT.iterdir()) if path.is_file()]
    nested = [path for folder in (*CODE_FOLDERS, ".ci") for path in sorted((ROOT / folder).rglob("*"))]
    for path in [*top, *nested]:
        if not path.is_file() or {"_build", "__pycache__"} & set(path.parts):
            continue
        if path.suffix in TEXT_SUFFIXES or path.name in {"Makefile", "NOTICE", "run"}:
            yield path


@functools.cache
def tree(path: Path) -> ast.Module:
    """The parsed file."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def name(path: Path) -> str:
    """The path as written in messages: relative to the repository, with forward slashes."""
    return path.relative_to(ROOT).as_posix()
