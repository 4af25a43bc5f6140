"""House rules that no linter knows."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

import house
import pytest

# Spelled in pieces, so that this file does not trip over itself.
HOME = re.compile(
    r"(?<![\w.])/(?:" + "|".join(["ro" + "ot", "wo" + "rk", "ho" + "me/\\w", "Us" + "ers/\\w"]) + r")\b"
)
MARKS = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"]) + r")\b")
UNSAFE_MODULES = {"pickle", "dill", "joblib", "cloudpickle", "marshal", "shelve"}
UNSAFE_CALLS = {"eval", "exec", "compile", "__import__"}
# Said once, in core.algorithm; repeating it in every method would say nothing more.
DOCUMENTED_BY_THE_PROTOCOL = {"init", "tell", "ask"}
# (file, what) -> why it is not a hole.
RUNS_CODE: dict[tuple[str, str], str] = {}
TEXTS = list(house.text_files())
SOURCES = list(house.python_files("src"))


@house.every(TEXTS)
def test_no_path_of_one_machine(path: Path) -> None:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        assert not HOME.search(line), (
            f"{house.name(path)}:{number} names a path of one machine: {line.strip()}"
        )


@house.every(TEXTS)
def test_nothing_is_marked_unfinished(path: Path) -> None:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        assert not MARKS.search(line), f"{house.name(path)}:{number} is marked unfinished: {line.strip()}"


def unsafe(tree: ast.AST) -> list[tuple[int, str]]:
    """Line and name of everything that runs text or bytes as code."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(node.lineno, a.name) for a in node.names if a.name.split(".")[0] in UNSAFE_MODULES]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in UNSAFE_MODULES:
            found.append((node.lineno, str(node.module)))
        elif isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name) and node.func.id in UNSAFE_CALLS:
                found.append((node.lineno, node.func.id))
            for keyword in node.keywords:
                value = keyword.value
                if keyword.arg == "shell" and not (isinstance(value, ast.Constant) and value.value is False):
                    found.append((node.lineno, "shell="))
                if keyword.arg == "weights_only" and not (
                    isinstance(value, ast.Constant) and value.value is True
                ):
                    found.append((node.lineno, "weights_only="))
    return found


@house.every(SOURCES)
def test_nothing_runs_text_or_bytes_as_code(path: Path) -> None:
    found = [what for _, what in unsafe(house.tree(path)) if (house.name(path), what) not in RUNS_CODE]
    assert found == []


def test_every_exception_is_still_needed_and_has_a_reason() -> None:
    assert all(len(reason) > 20 for reason in RUNS_CODE.values())
    for name, what in RUNS_CODE:
        assert what in [found for _, found in unsafe(house.tree(house.ROOT / name))]


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from joblib import load",
        "import dill as d",
        "eval('1')",
        "exec(code)",
        "run(cmd, shell=True)",
        "run(cmd, shell=flag)",
        "torch.load(f, weights_only=False)",
    ],
)
def test_the_check_bites(code: str) -> None:
    assert unsafe(ast.parse(code))


@house.every(SOURCES)
def test_torch_checkpoints_are_loaded_without_pickle(path: Path) -> None:
    for node in ast.walk(house.tree(path)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            assert any(k.arg == "weights_only" for k in node.keywords), f"{house.name(path)}:{node.lineno}"


@house.every(SOURCES)
def test_every_module_and_public_name_has_a_docstring(path: Path) -> None:
    tree = house.tree(path)
    assert ast.get_docstring(tree), f"{house.name(path)} does not say what it is"
    scopes: list[ast.Module | ast.ClassDef] = [tree]
    while scopes:
        for node in scopes.pop().body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            if node.name.startswith("_") or any("overload" in ast.unparse(d) for d in node.decorator_list):
                continue
            if isinstance(node, ast.ClassDef):
                scopes.append(node)
            if node.name not in DOCUMENTED_BY_THE_PROTOCOL:
                assert ast.get_docstring(node), (
                    f"{house.name(path)}:{node.lineno} {node.name} has no docstring"
                )


def test_nothing_abstract_is_left_to_do() -> None:
    word = "NotImplemented" + "Error"
    assert [house.name(p) for p in SOURCES if word in p.read_text(encoding="utf-8")] == []


def test_every_test_file_has_a_name_of_its_own() -> None:
    # Test modules are imported by their base name, so that worker processes can import what they define.
    names = Counter(path.name for path in (house.ROOT / "tests").rglob("test_*.py"))
    assert not [name for name, count in names.items() if count > 1]


def draws_from_the_shared_generator(tree: ast.AST) -> list[int]:
    """Lines that advance the ``random`` module's generator, which trainings draw from."""
    allowed = {"Random", "SystemRandom", "getstate", "setstate", "seed"}
    if not any(
        isinstance(n, ast.Import) and any(a.name == "random" for a in n.names) for n in ast.walk(tree)
    ):
        return []
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "random"
        and node.attr not in allowed
    ]


@house.every(SOURCES)
def test_the_generator_of_the_users_training_is_left_alone(path: Path) -> None:
    assert not draws_from_the_shared_generator(house.tree(path)), "draw from a generator of its own"


def test_the_check_finds_draws() -> None:
    assert draws_from_the_shared_generator(ast.parse("import random\nx = random.random()")) == [2]
