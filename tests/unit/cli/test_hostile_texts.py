"""What somebody named or wrote is shown, in terminals and on pages, and neither obeys it; and passwords are not shown."""

from __future__ import annotations

import io
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import tunewright as tw
from tunewright.analysis.progress import display
from tunewright.analysis.report import html
from tunewright.cli import main
from tunewright.cli.exits import Screen
from tunewright.core.texts import broken, cleaned, visible
from tunewright.store.redact import redacted, without_secrets

ESCAPES = "\x1b[2J\x1b]0;owned\x07\x9b31m\r\x08\x7f"
TURNED = "\u202egnp.exe\u2066\u200f\u2028"
MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script>\"'&javascript:alert(3)"
NAME = "<img src=x onerror=alert(1)>\"'&[red]{0}%s"
WRITTEN = f"{MARKUP} {ESCAPES} {TURNED}"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")


@pytest.fixture(scope="module")
def db(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store whose study is hostile wherever somebody can be."""
    path = str(tmp_path_factory.mktemp("hostile") / "s.db")
    space = {NAME: tw.Choice([WRITTEN, "<b>b</b>", "c"]), "x": tw.Float(0, 1)}
    with tw.Study.open(NAME, space, minimize=NAME, method="random", storage=path) as study:
        study.note(WRITTEN)
        study.enqueue({NAME: WRITTEN, "x": 0.5})
        for number in range(12):
            asked = study.ask()
            assert asked is not None
            if number in (3, 4):
                study.tell(asked, outcome="failed", error=f"Traceback\n{WRITTEN}")
            else:
                asked.tell({NAME: abs(asked.params["x"] - 0.3), "<u>": 1.0})
    return path


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(args))
    return int(stop.value.code or 0)


COMMANDS = [
    ["ls"], ["status", NAME], ["show", NAME], ["show", NAME, "0"], ["show", NAME, "3"], ["best", NAME], ["trials", NAME],
    ["importance", NAME], ["lineage", NAME], ["checkpoints", NAME], ["doctor"], ["replay", NAME],
    ["compare", NAME, NAME], ["ask", NAME], ["status", "no such <study>\x1b[31m"], ["tell", NAME, "0", "x\x1b[31m=1"],
    ["enqueue", NAME, f"{NAME}=\x1b[31m"],
]  # fmt: skip


@pytest.mark.parametrize("as_json", [False, True], ids=["text", "json"])
@pytest.mark.parametrize("words", COMMANDS, ids=lambda w: " ".join(x for x in w if x != NAME)[:20])
def test_terminals_obey_nothing(
    words: list[str], as_json: bool, db: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(words[0], *(["--json"] if as_json else []), "--storage", db, *words[1:])
    out, err = capsys.readouterr()
    assert not OBEYED.search(out + err), OBEYED.findall(out + err)
    assert out + err
    if as_json and code in (0, 3):
        for line in out.splitlines():
            json.loads(line)


def test_json_loses_nothing(db: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("trials", "--json", "--storage", db, NAME) == 0
    (line,) = capsys.readouterr().out.splitlines()
    trials = json.loads(line)
    assert trials[0]["params"][NAME] == WRITTEN
    assert trials[3]["error"] == f"Traceback\n{cleaned(WRITTEN)}"


class Page(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.risky: list[tuple[str, str | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.risky += [
            (k, v)
            for k, v in attrs
            if k.startswith("on") or "javascript" in (v or "") or k in ("href", "src")
        ]


def test_pages_obey_nothing(db: str, tmp_path: Path) -> None:
    with tw.Study.open(NAME, storage=db, exist="must") as study:
        text = html(study)
    page = Page(text)
    assert not page.tags & {"img", "script", "u", "b>", "a", "iframe", "object", "link", "base", "form"}
    assert page.risky == []
    assert not OBEYED.search(text)
    assert "&lt;img src=x onerror=alert(1)&gt;" in text
    for words in (["report", NAME, "--output", "r.html"], ["plot", "history", NAME, "--output", "p.svg"]):
        out = tmp_path / words[-1]
        run(words[0], *words[1:-1], str(out), "--storage", db)
        if out.exists():
            drawn = out.read_text(encoding="utf-8")
            assert not OBEYED.search(drawn)
            assert "<img" not in drawn
            assert "<script" not in drawn
    assert (tmp_path / "r.html").exists()


@pytest.mark.parametrize("mode", ["plain", "jsonl", "live"])
def test_progress_obeys_nothing(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setattr(sys, "stdout", stream)
    space = {"k": tw.Choice([WRITTEN]), "x": tw.Float(0, 1)}
    with tw.Study.open(NAME, space, minimize=NAME, method="random", storage="memory") as study:
        shown: Any = display(mode, study.name, study.method, study.problem, 3, None)
        for failing in (False, True):
            asked = study.ask()
            assert asked is not None
            if failing:
                study.tell(asked, outcome="failed", error=WRITTEN)
            else:
                asked.tell({NAME: 1.0})
            for record in study.session.store.read(study.session.info.id):
                shown(record.event, study.session)
        shown.close()
    text = stream.getvalue()
    assert "alert(2)" in text
    for part in ("\x1b]", "\x1b[2J", "\x9b", "\x07", "\u202e", "\u2066", "\u2028"):
        assert part not in text


def test_the_screen_passes_on_what_is_harmless() -> None:
    stream = io.StringIO()
    screen: Any = Screen(stream)
    assert screen.write("größe 鍵 🔑\n\tnext\x1b[31m") == 20
    assert stream.getvalue() == "größe 鍵 🔑\n\tnext\\u001b[31m"
    assert screen.isatty() is False
    assert json.loads(visible(json.dumps("\x9b\u202e", ensure_ascii=False))) == "\x9b\u202e"
    assert visible("plain") == "plain"
    assert (broken("é"), broken("\0"), broken("\ud800"), broken("plain")) == (False, True, True, False)


# ---------------------------------------------------------------------- passwords


ADDRESSES = [
    "postgresql://me:canary@host:5432/db",
    "postgresql://me:can/ary@host/db".replace("can/ary", "canary/canary"),
    "postgresql://me:canary@canary@host/db",
    "postgres://host/db?user=me&password=canary&sslmode=require",
    "postgresql://host/db?sslpassword=canary",
    "http://canary@host:8080",
    "https://host/?token=canary#top",
    "https://host/?a=1;access_token=canary",
    "https://host/#api_key=canary",
    "s3://key:canary@bucket/path",
    "host=localhost password=canary dbname=x",
    "host=localhost password='canary canary' dbname=x",
    "PASSWORD = canary",
    "me:canary@host/db",
    "Authorization: Bearer canary",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_addresses_are_shown_without_passwords(address: str) -> None:
    if not address.startswith("Auth"):
        assert "canary" not in redacted(address)
    assert "canary" not in without_secrets(address)
    assert "canary" not in without_secrets(
        f'could not connect: "{address}" (see {address}), tried {address}.'
    )
    assert redacted(redacted(address)) == redacted(address)


@pytest.mark.parametrize(
    "address",
    [
        "sqlite:////data/studies.db?durability=full", "studies.db", "./my@folder/studies.db", "memory",
        "postgresql://host:5432/db?sslmode=require", "http://localhost:8080/api?limit=3",
    ],
)  # fmt: skip
def test_addresses_without_passwords_stay_as_they_are(address: str) -> None:
    assert redacted(address) == address
    assert without_secrets(f"cannot open {address}, sorry") == f"cannot open {address}, sorry"


def test_long_addresses_are_cut() -> None:
    assert len(redacted("http://host/" + "x" * 1000)) == 200


STORES = [
    "postgresql://me:canary@127.0.0.1:1/db?password=canary&patience=0.2&deadline=1", "http://canary:canary@127.0.0.1:1/?token=canary",
    "ftp://me:canary@host/x", "sqlite://me:canary@host",
]  # fmt: skip


@pytest.mark.parametrize("address", STORES)
@pytest.mark.parametrize(("how", "debug"), [("option", True), ("environment", False)])
def test_commands_print_no_password(
    address: str,
    how: str,
    debug: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TUNEWRIGHT_TOKEN", "canary-token")
    monkeypatch.setenv("PGPASSWORD", "canary-password")
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "2")
    where = []
    if how == "option":
        where = ["--storage", f"{address}"]
    else:
        monkeypatch.setenv("TUNEWRIGHT_STORE", address)
    for words in (["status", "s"], ["doctor"], ["ls"]):
        code = run(*words, *(["--debug"] if debug else []), *where)
        out, err = capsys.readouterr()
        assert code != 0
        assert "canary" not in out + err, out + err
    written = [p.read_text(errors="replace") for p in tmp_path.rglob("*") if p.is_file()]
    assert not any("canary" in text for text in written)
