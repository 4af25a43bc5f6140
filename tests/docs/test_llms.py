"""Every page has a Markdown twin, and ``llms.txt`` leads to all of them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXT = Path(__file__).resolve().parents[2] / "docs" / "_ext"
sys.path.insert(0, str(EXT))

import llms  # noqa: E402 - found by the line above

TITLES = {"index": "Home", "guides/index": "Guides", "guides/a": "A page", "guides/b": "B page", "ref/c": "C"}


def test_a_twin_has_links_where_the_builder_writes_lists() -> None:
    text = "# Guides\n\n<!-- slow -->\n```python\nx = 1\n```\n\n```{toctree}\n:maxdepth: 1\n\nb\n../ref/c\nmissing\n```\n"
    assert llms.twin(text, "guides/index", TITLES) == (
        "# Guides\n\n```python\nx = 1\n```\n\n- [B page](b.md)\n- [C](../ref/c.md)\n"
    )
    every = llms.twin("```{toctree}\n:glob:\n\nb\n*\n```\n", "guides/index", TITLES)
    assert every == "- [B page](b.md)\n- [A page](a.md)\n"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("# T\n\nOne [link](x.md) and `code`. Two.\n", "One link and code."),
        ("# T\n\n| a | b |\n| - | - |\n\nThen text:\n", "Then text"),
        ("# T\n", ""),
    ],
)
def test_the_first_sentence_of_a_page(text: str, sentence: str) -> None:
    assert llms.first_sentence(text) == sentence


def test_the_list_has_a_section_per_folder() -> None:
    told = llms.listing(
        [
            ("index", "Home", "# Home\n\nHello."),
            ("guides/a", "A page", "# A"),
            ("guides/b", "B", "# B\n\nBee."),
        ]
    )
    assert told.startswith("# Tunewright\n\n> ")
    assert told.endswith("## Guides\n\n- [A page](guides/a.md)\n- [B](guides/b.md): Bee.\n")


@pytest.mark.slow
def test_a_build_writes_them(tmp_path: Path) -> None:
    pytest.importorskip("myst_parser")
    source, out = tmp_path / "source", tmp_path / "out"
    (source / "guides").mkdir(parents=True)
    (source / "conf.py").write_text(
        f"import sys\nsys.path.insert(0, {str(EXT)!r})\nextensions = ['myst_parser', 'llms']\n"
    )
    (source / "index.md").write_text("# Home\n\nHello there.\n\n```{toctree}\nguides/two\nguides/one\n```\n")
    (source / "guides" / "one.md").write_text("# One\n\nFirst guide.\n")
    (source / "guides" / "two.md").write_text("# Two\n\nSecond guide.\n")
    subprocess.run(
        [sys.executable, "-m", "sphinx", "-W", "-q", "-b", "html", str(source), str(out)],
        check=True,
        timeout=120,
    )
    told = (out / "llms.txt").read_text()
    links = re.findall(r"\]\(([^)]+)\)", told)
    assert links == ["index.md", "guides/two.md", "guides/one.md"], "in the order of the table of contents"
    assert all((out / link).is_file() for link in links)
    assert "- [Two](guides/two.md)" in (out / "index.md").read_text()
