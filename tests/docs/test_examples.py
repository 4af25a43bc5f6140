"""Every Python block of the README and the documentation runs, each as a script in an empty folder of its own.

A block is written as a fenced block with the language ``python``. A comment on the line above changes what happens:

- ``<!-- slow -->``: run it with the slow tests;
- ``<!-- needs: sklearn torch -->``: skip it where these modules are not installed;
- ``<!-- not run: REASON -->``: show it only, for instance because it needs a cluster.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(
    r"(?:^<!-- *(?P<mark>[^\n]*?) *-->\n)?^```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
SECONDS = 150


@dataclass(frozen=True)
class Example:
    """One block, where it is, and the comment above it."""

    where: str
    code: str
    mark: str

    @property
    def needs(self) -> list[str]:
        """Modules without which it is skipped."""
        found = re.search(r"needs: *([\w. ]+)", self.mark)
        return found.group(1).split() if found else []


def examples(text: str, name: str) -> list[Example]:
    """The blocks of one page, named by the page and the line of the block's first line of code."""
    return [
        Example(
            f"{name}:{text.count(chr(10), 0, found.start('code')) + 1}", found["code"], found["mark"] or ""
        )
        for found in BLOCK.finditer(text)
    ]


def pages() -> list[Path]:
    """The README and every page of the documentation; generated pages show signatures, not programs."""
    docs = [p for p in sorted((ROOT / "docs").rglob("*.md")) if "_build" not in p.parts]
    return [ROOT / "README.md", *docs]


EVERYTHING = [
    e for p in pages() for e in examples(p.read_text(encoding="utf-8"), p.relative_to(ROOT).as_posix())
]
RUNNABLE = [
    pytest.param(e, id=e.where, marks=[pytest.mark.slow] if "slow" in e.mark.split() else [])
    for e in EVERYTHING
    if not e.mark.startswith("not run:")
]


@pytest.mark.examples
@pytest.mark.parametrize("example", RUNNABLE)
def test_example_runs(example: Example, tmp_path: Path) -> None:
    absent = [name for name in example.needs if importlib.util.find_spec(name) is None]
    if absent:
        pytest.skip(f"needs {', '.join(absent)}")
    script = tmp_path / "example.py"
    script.write_text(example.code, encoding="utf-8")
    environment = os.environ | {"CI": "true", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:tunewright", str(script)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{example.where} fails:\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def test_a_block_that_is_not_run_says_why() -> None:
    for example in EVERYTHING:
        if example.mark.startswith("not run"):
            assert len(example.mark) > len("not run: ") + 10, f"{example.where} needs a reason"


def test_the_readme_has_examples_that_run() -> None:
    assert any(e.where.startswith("README.md:") and not e.mark.startswith("not run") for e in EVERYTHING)


def test_blocks_and_marks_are_found() -> None:
    text = "a\n```python\nx = 1\n```\n\n<!-- slow needs: torch -->\n```python\ny = 2\n```\n```text\nno\n```\n"
    first, second = examples(text, "page")
    assert (first.where, first.code, first.mark) == ("page:3", "x = 1\n", "")
    assert (second.where, second.needs, second.mark.split()[0]) == ("page:8", ["torch"], "slow")
