"""What must not be in the package, because others were broken into by it; each rule bites on an example of its own."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import house
import pytest

SOURCES = list(house.python_files("src"))
# What reads bytes or text as code, starts a shell, or trusts a stranger; by the last parts of the name.
BANNED = {
    "os.system", "os.popen", "os.execl", "os.execlp", "os.execvp", "os.spawnl", "os.spawnlp", "os.spawnvp",
    "subprocess.getoutput", "subprocess.getstatusoutput", "asyncio.create_subprocess_shell",
    "yaml.load", "yaml.unsafe_load", "yaml.full_load", "yaml.load_all",
    "pickle.load", "pickle.loads", "marshal.loads", "joblib.load", "cloudpickle.loads", "dill.loads", "shelve.open",
    "pandas.read_pickle", "pd.read_pickle", "torch.jit.load", "torch.hub.load", "torch.save", "torch.package",
    "builtins.eval", "builtins.exec", "builtins.compile", "runpy.run_path", "code.interact",
    "tempfile.mktemp", "ssl._create_unverified_context", "http.server.HTTPServer",
}  # fmt: skip
MODULES = {
    "pickle",
    "cPickle",
    "_pickle",
    "dill",
    "cloudpickle",
    "marshal",
    "shelve",
    "joblib",
    "imp",
    "telnetlib",
    "ftplib",
}
MODULES |= {"xml", "lxml", "yaml"}
NAMES = {"eval", "exec", "compile", "__import__", "input"}
MUST = {"allow_pickle": False, "shell": False, "verify": True, "weights_only": True, "check_hostname": True}
NEEDS = {"np.load": "allow_pickle", "numpy.load": "allow_pickle", "torch.load": "weights_only"}
# (file, what): why it is no hole.
ARGUED: dict[tuple[str, str], str] = {}


def dotted(node: ast.AST) -> str:
    """``a.b.c`` for a name or a chain of attributes, else nothing."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def broken(tree: ast.AST) -> list[str]:
    """Every breach of the rules in a file."""
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names if a.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            if (node.module or "").split(".")[0] in MODULES:
                found.append(str(node.module))
            found += [f"{node.module}.{a.name}" for a in node.names if f"{node.module}.{a.name}" in BANNED]
        elif isinstance(node, ast.Call):
            found += _call(node)
        elif isinstance(node, ast.Attribute) and dotted(node) in BANNED:
            found.append(dotted(node))
    return found


def _call(node: ast.Call) -> list[str]:
    name = dotted(node.func)
    found = [name] if isinstance(node.func, ast.Name) and name in NAMES else []
    given = {k.arg: k.value for k in node.keywords}
    for keyword, value in given.items():
        if keyword in MUST and not (isinstance(value, ast.Constant) and value.value is MUST[keyword]):
            found.append(f"{keyword}={ast.unparse(value)}")
    if name in NEEDS and NEEDS[name] not in given:
        found.append(f"{name} without {NEEDS[name]}")
    if name == "runpy.run_module" and not (node.args and isinstance(node.args[0], ast.Constant)):
        found.append(name)
    return found


@house.every(SOURCES)
def test_nothing_dangerous_is_called(path: Path) -> None:
    assert [what for what in broken(house.tree(path)) if (house.name(path), what) not in ARGUED] == []


@pytest.mark.parametrize(
    "code",
    [
        "import pickle", "from pickle import loads", "import cPickle", "import xml.etree.ElementTree as E", "import yaml",
        "from os import system", "os.system('ls')", "f = os.popen", "subprocess.run(x, shell=True)",
        "subprocess.run(x, shell=flag)", "np.load(f)", "np.load(f, allow_pickle=True)", "numpy.load(f, allow_pickle=x)",
        "torch.load(f)", "torch.load(f, weights_only=False)", "torch.save(x, f)", "eval('1')", "exec(x)",
        "builtins.eval(x)", "compile(x, '', 'exec')", "__import__(x)", "requests.get(u, verify=False)",
        "tempfile.mktemp()", "marshal.loads(b)", "runpy.run_module(name)", "pandas.read_pickle(p)", "from joblib import load",
    ],
)  # fmt: skip
def test_every_rule_bites(code: str) -> None:
    assert broken(ast.parse(code))


@pytest.mark.parametrize(
    "code",
    [
        "np.load(f, allow_pickle=False)", "torch.load(f, weights_only=True)", "subprocess.Popen([a, b])", "model.eval()", "runpy.run_module('tunewright')",
        "connection.execute('SELECT 1')", "re.compile(x)", "space.load(x)", "json.loads(x)",
    ],
)  # fmt: skip
def test_no_rule_bites_too_far(code: str) -> None:
    assert broken(ast.parse(code)) == []


def test_what_is_argued_is_there() -> None:
    for (name, what), why in ARGUED.items():
        assert len(why) > 20
        assert what in broken(house.tree(house.ROOT / name))


SILENCED = re.compile(r"#\s*(?:noqa:\s*[^#]*\bS\d{3}|nosec)")


@house.every(SOURCES)
def test_every_silenced_finding_says_why(path: Path) -> None:
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if SILENCED.search(line):
            assert re.search(r"(?:S\d{3}|nosec)[^-]* - \w+", line), (
                f"{house.name(path)}:{number} gives no reason"
            )


# Statements of SQL that are put together: the names that go into them, which must be written in the same file.
PUT_TOGETHER = re.compile(r"\b(?:SELECT|INSERT|UPDATE|DELETE|DROP|ALTER|CREATE|PRAGMA)\b")


def put_together(tree: ast.AST) -> list[tuple[int, str]]:
    """Line and names of everything that is formatted into a statement of SQL."""
    found: list[tuple[int, str]] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            words = "".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
            if PUT_TOGETHER.match(words.lstrip()):
                found += [
                    (node.lineno, ast.unparse(p.value))
                    for p in node.values
                    if isinstance(p, ast.FormattedValue)
                ]
        elif (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format"
        ):
            text = node.func.value
            if isinstance(text, ast.Constant) and PUT_TOGETHER.match(str(text.value).lstrip()):
                found.append((node.lineno, ast.unparse(node)))
    return found


@house.every([p for p in SOURCES if "store" in p.parts])
def test_values_never_become_part_of_a_statement(path: Path) -> None:
    fine = re.compile(r"_?[A-Z_]+|table|key|marks|check|len\(\w+\)|quoted\(\w+\)|'NORMAL' if .* else 'FULL'")
    odd = [(line, what) for line, what in put_together(house.tree(path)) if not fine.fullmatch(what)]
    assert odd == [], "only names from a fixed list may be put into a statement; bind values"


def test_the_rule_for_statements_bites() -> None:
    assert put_together(ast.parse("c.execute(f'SELECT * FROM t WHERE name = {user_name}')"))
    assert put_together(ast.parse("c.execute('DELETE FROM {}'.format(x))"))
    assert not put_together(ast.parse("c.execute('SELECT * FROM t WHERE name = ?', (x,))"))
