"""A file of at most 600 lines, a function of at most 60: what is larger is two things under one name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import house
import pytest

FILE_LINES = 600
FUNCTION_LINES = 60

# "path" or "path::function" -> why it may be larger. An entry without a reason, or one no longer needed, fails.
ALLOWED: dict[str, str] = {}


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Qualified name and length in lines (docstring included) of every function in the file."""

    def walk(node: ast.AST, prefix: str) -> Iterator[tuple[str, int]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                qualified = f"{prefix}{child.name}"
                if not isinstance(child, ast.ClassDef):
                    assert child.end_lineno is not None
                    yield qualified, child.end_lineno - child.lineno + 1
                yield from walk(child, f"{qualified}.")
            else:
                yield from walk(child, prefix)

    yield from walk(house.tree(path), "")


def too_large() -> dict[str, int]:
    found: dict[str, int] = {}
    for path in house.python_files():
        lines = path.read_text(encoding="utf-8").count("\n")
        if lines > FILE_LINES:
            found[house.name(path)] = lines
        found |= {f"{house.name(path)}::{f}": n for f, n in functions(path) if n > FUNCTION_LINES}
    return found


def test_files_and_functions_stay_small() -> None:
    offenders = {what: lines for what, lines in too_large().items() if what not in ALLOWED}
    assert not offenders, f"split these, or name a reason in ALLOWED: {offenders}"


def test_exceptions_name_a_reason_and_are_still_needed() -> None:
    assert all(len(reason) > 20 for reason in ALLOWED.values())
    assert set(ALLOWED) <= set(too_large()), "remove what is small again from ALLOWED"


def test_the_measure_sees_nested_and_async_functions(tmp_path: Path) -> None:
    file = tmp_path / "sample.py"
    body = "\n".join("        pass" for _ in range(70))
    file.write_text(f"class A:\n    async def f(self):\n{body}\n        def g():\n            pass\n")
    assert dict(functions(file)) == {"A.f": 73, "A.f.g": 2}


@pytest.mark.parametrize("folder", ["src", "tests"])
def test_there_is_something_to_measure(folder: str) -> None:
    assert any(house.python_files(folder))
