"""The pages and their files: what a browser may load and keep, who gets in, what is not there."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from asgi_client import Talk, made

from tunewright.core.domains import Float
from tunewright.study import Study
from tunewright.web import ui
from tunewright.web.doors import cookie
from tunewright.web.export import page, single
from tunewright.web.ui import Site, marked, policy

INDEX = """<!doctype html>
<html lang="en">
<head><title>Tunewright</title>
<link rel="icon" href="/static/icon.svg"><link rel="stylesheet" href="/static/app.css">
<script type="importmap">{"imports":{"lib":"/static/vendor/lib.js"}}</script>
<script type="module" src="/static/app/main.js"></script>
</head>
<body><div id="app"></div></body></html>
"""
FILES = {
    "index.html": INDEX,
    "icon.svg": "<svg/>",
    "app.css": "body{color:red}",
    "vendor/lib.js": "export const h = 1;" + " " * 2000,
    "app/main.js": 'import {h} from "lib"; import {p} from "./pages/one.js"; const two = import("./pages/two.js");',
    "app/pages/one.js": 'export {h as p} from "../more.js";import"./two.js";',
    "app/pages/two.js": "export const q = 2;",
    "app/more.js": "export const h = 3;",
    "LICENSES.txt": "MIT",
}
HOST = "localhost:8787"
COOKIE = cookie(HOST.encode()).decode()
SECRET = "../secret"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of pages, with a secret beside it."""
    static = tmp_path / "static"
    for name, text in FILES.items():
        path = static / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (tmp_path / "secret").write_text("a secret", encoding="utf-8")
    (static / "note.py").write_text("a secret", encoding="utf-8")
    return static


@pytest.fixture
def pages(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Talk]:
    """A server with these pages and no tokens."""
    monkeypatch.setattr(ui.Site, "__init__", _with(folder))
    talk = Talk()
    yield talk
    talk.close()


def _with(folder: Path) -> object:
    begin = Site.__init__

    def init(self: Site) -> None:
        begin(self, folder)

    return init


def study(talk: Talk, name: str = "s") -> Study:
    """A study with one trial."""
    found = Study.open(name, {"x": Float(0.0, 1.0)}, storage=talk.store, minimize="loss", method="random")
    found.tell(found.ask(), 1.0)
    return found


def test_files_are_kept_for_good_below_their_mark(pages: Talk) -> None:
    got = pages("GET", "=/")
    assert (got.status, got.headers["content-type"]) == (200, "text/html; charset=utf-8")
    mark = re.search(rb'src="/static/@([0-9a-f]+)/app/main.js"', got.body)
    assert mark is not None
    program = pages("GET", f"=/static/@{mark[1].decode()}/app/main.js")
    assert (program.status, program.headers["content-type"]) == (200, "text/javascript; charset=utf-8")
    assert "immutable" in program.headers["cache-control"]
    plain = pages("GET", "=/static/vendor/lib.js")
    assert plain.headers["cache-control"] == "public, no-cache"
    small = pages("GET", "=/static/vendor/lib.js", headers=[("accept-encoding", "gzip")])
    assert gzip.decompress(small.body) == plain.body
    assert (
        pages("GET", "=/static/vendor/lib.js", headers=[("if-none-match", plain.headers["etag"])]).status
        == 304
    )
    assert pages("GET", "=/static/@000000000000/app/main.js").headers["cache-control"] == "public, no-cache"


def test_files_that_change_are_read_again(folder: Path) -> None:
    site = Site(folder)
    before = site.page().body, site.mark
    (folder / "app.css").write_text("body{color:green}", encoding="utf-8")
    found = site.file("app.css")
    assert found is not None
    assert found.body == b"body{color:green}"
    assert site.mark != before[1]
    assert site.page().body != before[0]


@pytest.mark.parametrize(
    "path",
    [
        SECRET, "..%2fsecret", "%2e%2e/secret", "app/../../secret", "/etc/passwd", "note.py", "app/", "", "@x/" + SECRET,
        "app/main.js%00", "nothing.js", "@", "@/app/main.jsx",
    ],
)  # fmt: skip
def test_nothing_but_its_files_is_served(pages: Talk, path: str) -> None:
    got = pages("GET", f"=/static/{path}")
    assert got.status == 404
    assert b"a secret" not in got.body


def test_a_page_may_load_only_what_is_here(pages: Talk) -> None:
    got = pages("GET", "=/")
    rules = dict(r.strip().partition(" ")[::2] for r in got.headers["content-security-policy"].split(";"))
    assert rules["default-src"] == "'self'"
    assert "unsafe" not in got.headers["content-security-policy"]
    inside = re.search(rb'<script type="importmap">(.*?)</script>', got.body, re.DOTALL)
    assert inside is not None
    digest = base64.b64encode(hashlib.sha256(inside[1]).digest()).decode()
    assert rules["script-src"] == f"'self' 'sha256-{digest}'"
    assert rules["style-src"] == "'self'"
    assert (rules["frame-ancestors"], rules["object-src"], rules["base-uri"]) == ("'none'",) * 3
    assert got.headers["x-content-type-options"] == "nosniff"
    assert b"sha256" in policy(b"<style>a{}</style>").split(b"style-src")[1].split(b";")[0]


def test_marked_touches_addresses_of_files_only() -> None:
    assert marked(b'<a href="/static/a.js"><b c=\'/static/b\'> /static/c "x/static/d"', b"m".decode()) == (
        b'<a href="/static/@m/a.js"><b c=\'/static/@m/b\'> /static/c "x/static/d"'
    )


def test_what_is_not_there_is_404_with_the_page(pages: Talk) -> None:
    study(pages)
    odd = "é/ü #1"
    study(pages, odd)
    there = [
        "/",
        "/compare",
        "/methods",
        "/s/s",
        "/s/@1",
        "/s/s/explore",
        "/s/s/trial/0",
        "/s/%C3%A9%2F%C3%BC%20%231/curves",
    ]
    absent = ["/x", "/s", "/s/", "/s/none", "/s/s/none", "/s/s/trial/1", "/s/s/trial/x", "/s/s/explore/x", "/s/%ff", "//", "/index.html",
              "/s/s/trial/99999999999999999999", "/compare/x"]  # fmt: skip
    assert {p: pages("GET", f"={p}").status for p in there} == dict.fromkeys(there, 200)
    assert {p: pages("GET", f"={p}").status for p in absent} == dict.fromkeys(absent, 404)
    assert pages("GET", "=/x").body == pages("GET", "=/").body
    assert pages("POST", "=/x").status == 405


def test_without_files_the_page_says_so(tmp_path: Path) -> None:
    assert b"no pages" in Site(tmp_path).page().body


def test_an_address_with_a_token_signs_in(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ui.Site, "__init__", _with(folder))
    path, (reader, _) = made(tmp_path, ("read", "s"), ("worker", "*"))
    talk = Talk(tokens=path)
    for name in ("s", "hidden"):
        study(talk, name)
    got = talk("GET", f"=/s/s/explore?q=lr%3C1&token={reader}&x=time")
    assert (got.status, got.headers["location"], got.body) == (303, "/s/s/explore?q=lr%3C1&x=time", b"")
    given = got.headers["set-cookie"]
    assert given == f"{COOKIE}={reader}; Path=/; HttpOnly; SameSite=Strict"
    shown = [("cookie", f"other=1; {COOKIE}={reader}")]
    assert [s["name"] for s in talk("GET", "/board", headers=shown).json["studies"]] == ["s"]
    assert talk("GET", "=/s/s", headers=shown).status == 200
    assert talk("GET", "=/s/hidden", headers=shown).status == 404
    # Nobody learns what there is before signing in.
    assert (talk("GET", "=/s/hidden").status, talk("GET", "=/s/absent").status) == (200, 200)
    assert talk("GET", "/board").status == 401
    assert talk("GET", "/board", headers=[("cookie", f"tunewright-1={reader}")]).status == 401
    wrong = talk("GET", "=/s/s?token=tw_wrong")
    assert (wrong.status, wrong.headers["location"], "set-cookie" in wrong.headers) == (303, "/s/s", False)
    assert "set-cookie" not in talk("GET", f"=/?token={reader}%0d%0aset-cookie:x=1").headers
    assert talk("GET", f"=//evil.example/?token={reader}").headers["location"] == "/evil.example/"
    assert talk("GET", f"=/\\evil.example/?token={reader}").headers["location"] == "/%5Cevil.example/"
    talk.close()


def test_a_cookie_writes_only_for_this_page(tmp_path: Path) -> None:
    path, (worker,) = made(tmp_path, ("worker", "*"))
    talk = Talk(tokens=path)
    study(talk)
    shown = ("cookie", f"{COOKIE}={worker}")
    body = {"params": {"x": 0.5}}

    def status(*headers: tuple[str, str]) -> int:
        return talk("POST", "/studies/s/queue", body, headers=[shown, *headers]).status

    assert status(("origin", f"http://{HOST}")) == 200
    assert status(("sec-fetch-site", "same-origin")) == 200
    assert status() == 403
    assert status(("origin", "http://evil.example")) == 403
    assert status(("origin", "http://localhost:3000")) == 403
    assert status(("origin", "null")) == 403
    assert status(("sec-fetch-site", "same-site")) == 403
    # Whoever sends the token itself is no browser that was talked into it.
    assert talk("POST", "/studies/s/queue", body, token=worker).status == 200
    talk.close()


def test_guesses_in_addresses_are_slowed_down(tmp_path: Path) -> None:
    path, _ = made(tmp_path, ("read", "s"))
    talk = Talk(tokens=path)
    found = [talk("GET", f"=/?token=tw_{n}").status for n in range(14)]
    assert (found[:10], found[-1]) == ([303] * 10, 429)
    talk.close()


def test_a_token_lent_ends_with_the_server_and_closes_the_door(tmp_path: Path) -> None:
    talk = Talk(tokens=tmp_path / "none.json")
    assert talk("GET", "/board").status == 200
    token = talk.app.state.guests.lend("read")
    assert talk("GET", "/board").status == 401
    assert talk("GET", "/board", token=token).json["rights"] == "read"
    assert talk("POST", "/studies", {"name": "n", "space": {"x": "0..1"}}, token=token).status == 403
    other = Talk(tokens=tmp_path / "none.json")
    other.app.state.guests.lend("read")
    assert other("GET", "/board", token=token).status == 401
    assert not (tmp_path / "none.json").exists()
    talk.close()
    other.close()


# ------------------------------------------------------------------ one file


def test_one_file_holds_programs_styles_and_data(folder: Path) -> None:
    text = single(folder, {"/api/v1/board": {"name": "</script><b>"}}).decode()
    assert "/static/" not in re.sub(r"data:text/javascript;base64,[A-Za-z0-9+/=]+", "", text)
    assert text.count("</script>") == 3
    data = re.search(r'<script type="application/json" id="tunewright-data">(.*?)</script>', text)
    assert data is not None
    assert json.loads(data[1]) == {"/api/v1/board": {"name": "</script><b>"}}
    table = re.search(r'<script type="importmap">(.*?)</script>', text)
    start = re.search(r'<script type="module">(.*?)</script>', text)
    rules = re.search(r'content-security-policy" content="(.*?)"', text)
    styles = re.search(r"<style>(.*?)</style>", text)
    assert table and start and rules and styles
    assert start[1] == 'import "tunewright/app/main.js";'
    assert styles[1] == FILES["app.css"]
    for inline in (table[1], start[1], styles[1]):
        assert base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode() in rules[1]
    assert "default-src 'none'" in rules[1]
    assert "unsafe" not in rules[1]
    imports = json.loads(table[1])["imports"]
    programs = {n: base64.b64decode(a.partition(",")[2]).decode() for n, a in imports.items()}
    assert programs["lib"] == programs["tunewright/vendor/lib.js"] == FILES["vendor/lib.js"]
    assert '"./' not in "".join(programs.values())
    assert programs["tunewright/app/pages/one.js"] == (
        'export {h as p} from "tunewright/app/more.js";import"tunewright/app/pages/two.js";'
    )
    assert 'import("tunewright/app/pages/two.js")' in programs["tunewright/app/main.js"]


def test_one_file_answers_what_pages_ask(folder: Path) -> None:
    talk = Talk()
    study(talk)
    study(talk, "other")
    text = page(talk.store, "s", folder).decode()
    data = re.search(r'id="tunewright-data">(.*?)</script>', text)
    assert data is not None
    found = json.loads(data[1])
    root = "/api/v1/studies/s"
    assert [s["name"] for s in found["/api/v1/board"]["studies"]] == ["s"]
    assert (found["/api/v1/board"]["rights"], found["/api/v1/board"]["readonly"]) == ("read", True)
    assert found[f"{root}/columns"] == talk("GET", "/studies/s/columns").json
    for path in ("overview", "notes", "charts", "trials/0", "trials/0/copy"):
        assert found[f"{root}/{path}"] == talk("GET", f"/studies/s/{path}").json
    assert any(path.startswith(f"{root}/charts/") for path in found)
    assert not any("other" in path for path in found)
    talk.close()


def test_a_study_leaves_as_a_table_or_a_page(
    pages: Talk, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = study(pages)
    monkeypatch.setattr("tunewright.web.export.STATIC", folder)
    lines = pages("GET", "/studies/s/export").body.decode().splitlines()
    assert lines[0].startswith("number,status,x,loss")
    assert lines[1].startswith(f"0,completed,{found.trials[0].params['x']},1.0")
    row = json.loads(pages("GET", "/studies/s/export?format=jsonl").body)
    assert (row["number"], row["metrics"], row["reports"]) == (0, {"loss": 1.0}, [])
    got = pages("GET", "/studies/s/export?format=html")
    assert got.headers["content-disposition"] == 'attachment; filename="s.html"'
    assert b"tunewright-data" in got.body
    assert pages("GET", "/studies/s/export?format=xml").status == 422


def test_a_study_leaves_as_parquet(talk: Talk) -> None:
    pytest.importorskip("pyarrow")
    study(talk)
    assert talk("GET", "/studies/s/export?format=parquet").body[:4] == b"PAR1"
