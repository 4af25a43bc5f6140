"""What leaves a study for people: tables, and all its pages as one file that needs no server.

The file is the same page with the same programs. Programs become ``data:`` addresses that an import map names, relative
names of programs become names of that map, and what the server would have answered stands in
``<script type="application/json" id="tunewright-data">`` by address. It loads nothing from anywhere.
"""

from __future__ import annotations

import asyncio
import base64
import glob
import hashlib
import io
import json
import posixpath
import re
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tunewright.analysis.table import to_parquet, write_csv, write_jsonl
from tunewright.errors import ConfigError, TunewrightError
from tunewright.opening import missing
from tunewright.store import wire
from tunewright.store.base import Store, StudyInfo
from tunewright.view import as_dict
from tunewright.web import control, listing, looking, overview, showing
from tunewright.web.charting import Seen
from tunewright.web.lanes import aside
from tunewright.web.refusals import Headers, Refused
from tunewright.web.replies import Call, Handler, Reply, Stream, explained
from tunewright.web.state import Settings, State
from tunewright.web.tokens import Who
from tunewright.web.ui import STATIC

FORMATS = {
    "html": b"text/html; charset=utf-8", "csv": b"text/csv; charset=utf-8", "jsonl": b"application/x-ndjson",
    "parquet": b"application/vnd.apache.parquet",
}  # fmt: skip
_MOST_TRIALS = 300
_IMPORT = re.compile(r"""((?:\bfrom|\bimport)\s*\(?\s*)(["'])(\.{1,2}/[^"'\n]+)\2""")
_MAP = re.compile(r'<script\s+type="importmap"\s*>(.*?)</script>', re.DOTALL)
_ENTRY = re.compile(r'<script\b(?=[^>]*\btype="module")[^>]*\bsrc="/static/([^"?]+)[^"]*"[^>]*>\s*</script>')
_STYLE = re.compile(r'<link\b(?=[^>]*\brel="stylesheet")[^>]*\bhref="/static/([^"?]+)[^"]*"[^>]*>')
_OTHER = re.compile(r'<link\b[^>]*\bhref="/static/([^"?]+)[^"]*"[^>]*>')
_OWN = "tunewright/"


# ------------------------------------------------------------------ the data


async def answers(call: Call, info: StudyInfo) -> dict[str, Any]:
    """What the pages of one study ask a server for, by address; a refusal is kept as such, for its reason.

    Args:
        call: Whoever asks; sees this study alone.
        info: The study.
    """
    from tunewright.analysis.plots import KINDS

    root = f"{wire.PREFIX}/studies/{quote(info.name, safe='!~*()' + chr(39))}"
    found: dict[str, Any] = {}

    async def ask(path: str, handler: Handler, item: str = "") -> Any:
        asked = Call(
            call.state, call.who, {"headers": [], "query_string": b""}, call.receive, info.name, item
        )
        try:
            reply: Reply | Stream = await handler(asked)
        except (Refused, TunewrightError) as error:
            reply = explained(error, call.who)
        assert isinstance(reply, Reply)
        found[path] = json.loads(reply.body)
        return found[path]

    await ask(f"{wire.PREFIX}/board", showing.board)
    columns = await ask(f"{root}/columns", showing.columns)
    await ask(f"{root}/overview", overview.overview)
    await ask(f"{root}/notes", control.notes)
    if columns["sizes"]:
        await ask(f"{root}/transfer", showing.transfer)
    await ask(f"{root}/charts", showing.charts)
    # Those that make no sense here as well, for the reason why.
    for kind in KINDS:
        await ask(f"{root}/charts/{kind}", showing.chart, kind)
    for number in _chosen(columns["n"], columns["best"]):
        await ask(f"{root}/trials/{number}", listing.trial, str(number))
        await ask(f"{root}/trials/{number}/copy", looking.copy, str(number))
    return found


def _chosen(n: int, best: int) -> list[int]:
    """The trials that are kept in full: all of them, or of very many the newest and the best."""
    newest = range(max(0, n - _MOST_TRIALS), n)
    return [*newest, *([best] if 0 <= best < newest.start else [])]


# ------------------------------------------------------------------ the page


def single(folder: Path, data: dict[str, Any]) -> bytes:
    """The page, its programs, its styles and its data as one file.

    Args:
        folder: Where the files of the pages are.
        data: What a server would answer, by address.

    Raises:
        ConfigError: If this installation has no pages.
    """
    index = folder / "index.html"
    if not index.is_file():
        raise ConfigError(
            "A page for people needs the files of the dashboard; this installation has none. Install it anew."
        )
    page = index.read_text(encoding="utf-8")
    given = _MAP.search(page)
    named: dict[str, str] = json.loads(given[1])["imports"] if given is not None else {}
    programs = {p.relative_to(folder).as_posix(): p for p in sorted(folder.rglob("*.js"))}
    imports = {
        _OWN + name: _address(name, path.read_text(encoding="utf-8")) for name, path in programs.items()
    }
    for name, target in named.items():
        imports[name] = imports[_OWN + target.removeprefix("/static/")]
    entry = _ENTRY.search(page)
    start = f'import "{_OWN}{entry[1]}";' if entry is not None else ""
    table = json.dumps({"imports": imports}, separators=(",", ":"))
    styles = "".join((folder / m[1]).read_text(encoding="utf-8") for m in _STYLE.finditer(page))
    page = _OTHER.sub("", _STYLE.sub("", _ENTRY.sub("", _MAP.sub("", page))))
    kept = json.dumps(data, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    allowed = " ".join(f"'sha256-{_digest(text)}'" for text in (table, start))
    policy = (
        f"default-src 'none'; script-src {allowed} data:; style-src 'sha256-{_digest(styles)}'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )
    head = f'<meta http-equiv="content-security-policy" content="{policy}"><style>{styles}</style>'
    tail = (
        f'<script type="application/json" id="tunewright-data">{kept}</script>'
        f'<script type="importmap">{table}</script><script type="module">{start}</script>'
    )
    # Not re.sub, which would read backslashes in what is put in.
    before, opened, rest = page.partition("<head>")
    body, closed, after = rest.rpartition("</body>")
    return "".join((before, opened, head, body, tail, closed, after)).encode()


def _address(name: str, text: str) -> str:
    """A program as an address, the relative names in it as names of the import map."""
    folder = posixpath.dirname(name)

    def renamed(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, found[3]))
        return f"{found[1]}{found[2]}{_OWN}{target}{found[2]}"

    data = base64.b64encode(_IMPORT.sub(renamed, text).encode()).decode()
    return f"data:text/javascript;base64,{data}"


def _digest(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def page(store: Store, name: str, folder: Path = STATIC) -> bytes:
    """All pages of a study as one file.

    Args:
        store: Where the study is.
        name: Its name.
        folder: Where the files of the pages are.

    Raises:
        StudyMissing: If it is not there.
        ConfigError: If this installation has no pages.
    """
    info = store.find(name)
    if info is None:
        raise missing(name, store)

    async def gathered() -> dict[str, Any]:
        state = State(store, Settings(readonly=True), dict)
        try:
            return await answers(_lonely(state, info), info)
        finally:
            state.close()

    return single(folder, asyncio.run(gathered()))


def _lonely(state: State, info: StudyInfo) -> Call:
    """Whoever sees this study alone, and may only look."""

    async def nothing() -> Any:
        raise AssertionError("there is no body to read")

    return Call(state, Who("", "read", (glob.escape(info.name),)), {"headers": []}, nothing, info.name, "")


# ------------------------------------------------------------------ handlers


async def export(call: Call) -> Reply:
    """All trials as a table, or all pages of the study as one file."""
    info = await call.state.shelf.info(call.study, call.who)
    form = call.query.get("format", "csv")
    if form not in FORMATS:
        raise Refused(
            422, "HTTP", f"'format' must be one of {', '.join(FORMATS)}; got {form[:40]!r}. Correct it."
        )
    pool = call.state.pools.moving
    if form == "html":
        data = await answers(_lonely(call.state, info), info)
        body = await aside(pool, lambda: single(STATIC, data))
    else:
        held = call.state.board.held(info)
        body = await aside(pool, lambda: table(held.seen(), form))
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", info.name).strip(".-")[:80] or "study"
    headers: Headers = [
        (b"content-type", FORMATS[form]),
        (b"content-disposition", f'attachment; filename="{name}.{form}"'.encode()),
    ]
    return Reply(200, body, headers)


def table(seen: Seen, form: str) -> bytes:
    """The trials of a study as bytes of a format: ``csv``, ``jsonl`` or ``parquet``.

    Raises:
        MissingExtra: If the package for it is not installed.
    """
    trials, scale = seen.trials, seen.problem.scale
    if form == "parquet":
        packed = io.BytesIO()
        to_parquet(trials, packed, scale)
        return packed.getvalue()
    stream = io.StringIO(newline="")
    if form == "csv":
        write_csv(trials, stream, scale)
    else:
        write_jsonl(trials, stream, partial(as_dict, scale=scale))
    return stream.getvalue().encode()
