"""Messages about a run: what is said, where, and that nothing waits for them or gives a secret away."""

from __future__ import annotations

import json
import logging
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

import tunewright as tw
from tunewright.errors import ConfigError
from tunewright.run.notifying import Notifier, _desktop, checked


@pytest.mark.parametrize("where", ["desktop", "cmd:notify me", "webhook:https://a.b/c"])
def test_places(where: str) -> None:
    assert checked(where) == where


@pytest.mark.parametrize(
    "where", ["", "cmd:", "webhook:file:///etc/passwd", "webhook:secret-token", "mail:me@x"]
)
def test_places_that_are_none(where: str) -> None:
    with pytest.raises(ConfigError, match="notify must be cmd:COMMAND") as refused:
        checked(where)
    assert "secret-token" not in str(refused.value)


def writer(folder: Path) -> str:
    (folder / "say.py").write_text(
        "import json, os, sys\nwith open('said.jsonl', 'a') as f:\n"
        "    f.write(json.dumps({**json.load(sys.stdin), 'env': os.environ['TUNEWRIGHT_EVENT']}) + '\\n')\n"
    )
    return f"cmd:{sys.executable} say.py"


def test_a_command_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def train(x: float) -> float:
        if x < 0.5:
            raise ValueError("below")
        return x

    study = tw.Study.open("s", {"x": tw.Float(0.0, 1.0)}, method="random", storage="memory")
    for x in (0.9, 0.8, 0.1, 0.2, 0.3, 0.7):
        study.enqueue({"x": x})
    notifier = Notifier([writer(tmp_path)], "s", pause=1000.0)
    study.run(train, trials=6, progress="none", watch=notifier)
    notifier.finished("over", 5, {"loss": 0.7})
    notifier.close()
    said = [json.loads(line) for line in (tmp_path / "said.jsonl").read_text().splitlines()]
    assert [(s["event"], s["text"]) for s in said] == [
        ("best-improved", "s: loss=0.9 in trial 0 is the best so far"),
        ("failing", "s: 3 trials in a row have failed; the last: ValueError: below"),
        ("finished", "s: over; best trial 5: loss=0.7"),
    ]
    assert all(s["env"] == s["event"] and s["v"] == 1 and s["study"] == "s" for s in said)
    assert said[0]["params"] == {"x": 0.9}


def test_a_webhook_gets_json() -> None:
    got: list[Any] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(
                (
                    self.headers["Content-Type"],
                    json.loads(self.rfile.read(int(self.headers["Content-Length"]))),
                )
            )
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.handle_request)
        thread.start()
        notifier = Notifier([f"webhook:http://127.0.0.1:{server.server_port}/hook"], "s")
        notifier.finished("over")
        notifier.close()
        thread.join(5)
    assert got[0][0] == "application/json"
    assert {k: v for k, v in got[0][1].items() if k != "t"} == {
        "v": 1,
        "event": "finished",
        "study": "s",
        "text": "s: over",
    }


def test_nothing_waits_and_no_secret_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    notifier = Notifier(["webhook:http://127.0.0.1:1/token-abc", "cmd:/absent-program token-abc"], "s")
    began = time.monotonic()
    for _ in range(1000):
        notifier.failing("many")
    assert time.monotonic() - began < 0.5
    while notifier._queue.qsize() > 2:
        notifier._queue.get()
    with caplog.at_level(logging.WARNING):
        notifier.close()
    assert "webhook at 127.0.0.1" in caplog.text
    assert "token-abc" not in caplog.text


def test_the_desktop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    assert _desktop("-s", "text") == ["/bin/notify-send", "--app-name=tunewright", "--", "-s", "text"]
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert _desktop("s", "text") is None
    monkeypatch.setattr(sys, "platform", "darwin")
    assert _desktop("s", 'a "b"') == ["osascript", "-e", 'display notification "a \\"b\\"" with title "s"']
