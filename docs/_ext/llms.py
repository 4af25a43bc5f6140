"""Sphinx extension: a Markdown twin of every page, and ``llms.txt``, which lists them for programs that read.

The twin of ``guides/spaces.html`` is ``guides/spaces.md``: the source, with lists of pages written out as links. The form of
``llms.txt`` is that of llmstxt.org: a title, a summary, then sections with links and one line each.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

NAME = "llms.txt"
TOCTREE = re.compile(r"^```\{toctree\}\n(?P<body>.*?)^```\n?", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"^<!--.*?-->\n", re.MULTILINE | re.DOTALL)
_SUMMARY = """# Tunewright

> Tunewright chooses hyperparameters: it tunes a Python function, an existing script without changing it, or a training that
> runs somewhere else; it survives crashes; and it says why it decided what it decided. `pip install tunewright`, then
> `import tunewright as tw`.

Every page is also there as Markdown, under the same address with `.md` for `.html`.
"""


def twin(text: str, page: str, titles: Mapping[str, str]) -> str:
    """The Markdown of a page for readers without a builder.

    Args:
        text: The source.
        page: Its name, such as ``guides/index``.
        titles: Title of every page by name.
    """

    def listed(found: re.Match[str]) -> str:
        lines = [line.strip() for line in found["body"].splitlines()]
        names = [line for line in lines if line and not line.startswith(":")]
        children = [c for name in names for c in _pages(name, page, titles)]
        done = dict.fromkeys(children)
        return "".join(f"- [{titles[c]}]({_relative(c, page)})\n" for c in done)

    return MARK.sub("", TOCTREE.sub(listed, text))


def _pages(name: str, page: str, titles: Mapping[str, str]) -> list[str]:
    """The pages that an entry of a list means; ``*`` means all that are beside it."""
    folder = posixpath.dirname(page)
    wanted = posixpath.normpath(posixpath.join(folder, name)).lstrip("/")
    if name.endswith("*"):
        place = posixpath.dirname(wanted)
        return sorted(t for t in titles if posixpath.dirname(t) == place and t != page)
    return [wanted] if wanted in titles else []


def _relative(page: str, start: str) -> str:
    return posixpath.relpath(page, posixpath.dirname(start) or ".") + ".md"


def first_sentence(text: str) -> str:
    """The first sentence below a title, without markup that only a builder understands."""
    body = MARK.sub("", TOCTREE.sub("", text))
    for block in re.split(r"\n\s*\n", body):
        line = " ".join(block.split())
        if line and not line.startswith(("#", "|", "```", "(", "- ", ":::", "<")):
            plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", line).replace("`", "")
            return re.split(r"(?<=[.!?:]) ", plain)[0].rstrip(":")[:200]
    return ""


def listing(pages: Iterable[tuple[str, str, str]]) -> str:
    """``llms.txt``.

    Args:
        pages: Name, title and source of each page, in the order in which they are to be read.
    """
    parts = [_SUMMARY]
    section = ""
    for name, title, text in pages:
        folder = name.partition("/")[0] if "/" in name else "Home"
        if folder != section:
            section = folder
            parts.append(f"\n## {folder.capitalize()}\n\n")
        told = first_sentence(text)
        parts.append(f"- [{title}]({name}.md)" + (f": {told}" if told else "") + "\n")
    return "".join(parts)


def _in_order(env: Any) -> list[str]:
    """The pages as the tables of contents lead to them, each once; orphans at the end."""
    done: dict[str, None] = {}
    todo = [env.config.root_doc]
    while todo:
        name = todo.pop(0)
        if name not in done:
            done[name] = None
            todo = list(env.toctree_includes.get(name, [])) + todo
    return [*done, *sorted(set(env.titles) - set(done))]


def write(app: Any, error: Exception | None) -> None:
    """Writes the twins and the list beside the pages, after a build of HTML."""
    if error is not None or app.builder.name != "html":
        return
    env, out = app.env, Path(app.outdir)
    titles = {name: node.astext() for name, node in env.titles.items()}
    pages = []
    for name in _in_order(env):
        text = Path(env.doc2path(name)).read_text(encoding="utf-8")
        path = out / f"{name}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(twin(text, name, titles), encoding="utf-8")
        pages.append((name, titles[name], text))
    (out / NAME).write_text(listing(pages), encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("build-finished", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
