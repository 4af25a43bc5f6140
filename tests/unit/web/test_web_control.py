"""Pausing, stopping, notes and tags over HTTP: who may, what is kept, what workers are told."""

from __future__ import annotations

from pathlib import Path

import pytest
from asgi_client import Talk, made


def test_a_pause_keeps_trials_from_workers_and_a_stop_sends_them_home(talk: Talk) -> None:
    talk.study()
    first = talk.ask()
    assert talk("POST", "/studies/s/control", {"action": "pause"}).json == {
        "control": "pause",
        "changed": True,
    }
    assert talk("POST", "/studies/s/control", {"action": "pause"}).json == {
        "control": "pause",
        "changed": False,
    }
    assert talk("POST", "/studies/s/ask", {}).json == {"trials": []}
    word = {
        "kind": "report",
        "trial": first["trial"],
        "token": first["token"],
        "step": 1,
        "metrics": {"loss": 1.0},
    }
    said = {"message": word, "worker": "w"}
    assert "verdict" not in talk("POST", "/studies/s/say", said).json
    talk("POST", "/studies/s/control", {"action": "stop"})
    assert talk("POST", "/studies/s/ask", {"wait": 9.0}).json == {"trials": [], "stopped": True}
    assert talk("POST", "/studies/s/say", {**said, "message": {**word, "step": 2}}).json["verdict"] == "pause"
    assert talk("POST", "/studies/s/control", {"action": "resume"}).json == {"control": None, "changed": True}
    assert talk.ask() is not None
    kinds = [r[3]["kind"] for r in talk("GET", "/studies/s/events").json["records"]]
    assert kinds.count("controlled") == 3


def test_notes_and_tags_are_answered_and_listed(talk: Talk) -> None:
    talk.study()
    talk.ask()
    assert talk("POST", "/studies/s/notes", {"text": "<b>hm</b>"}).json == {"note": "<b>hm</b>", "tags": []}
    assert talk("POST", "/studies/s/tags", {"trial": 0, "add": ["a", "b"]}).json == {
        "note": "",
        "tags": ["a", "b"],
    }
    got = talk("POST", "/studies/s/tags", {"trial": 0, "add": ["c"], "remove": ["a"]})
    assert got.json["tags"] == ["b", "c"]
    assert talk("GET", "/studies/s/notes").json == {
        "study": {"note": "<b>hm</b>", "tags": []},
        "trials": {"0": {"note": "", "tags": ["b", "c"]}},
    }


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("control", {"action": "explode"}),
        ("control", {}),
        ("notes", {"text": "x", "trial": 7}),
        ("notes", {"text": "x" * 70_000}),
        ("tags", {"add": ["\u0000"]}),
        ("tags", {"add": ["x"] * 51}),
        ("tags", {"add": ["x"], "trial": 0}),
    ],
)
def test_what_makes_no_sense_is_refused(talk: Talk, path: str, body: dict[str, object]) -> None:
    talk.study()
    assert talk("POST", f"/studies/s/{path}", body).status == 422
    assert talk("GET", "/studies/s/notes").json == {"study": {"note": "", "tags": []}, "trials": {}}


def test_a_worker_may_note_and_only_an_admin_may_pause(tmp_path: Path) -> None:
    file, (admin, worker, reader) = made(tmp_path, ("admin", "*"), ("worker", "*"), ("read", "*"))
    talk = Talk(tokens=file)
    talk.token = admin
    talk.study()
    paths = {"control": {"action": "pause"}, "notes": {"text": "x"}, "tags": {"add": ["x"]}}
    for token, wanted in ((reader, [403, 403, 403]), (worker, [403, 200, 200]), (admin, [200, 200, 200])):
        talk.token = token
        assert [talk("POST", f"/studies/s/{p}", b).status for p, b in paths.items()] == wanted
        assert talk("GET", "/studies/s/notes").status == 200
    talk.token = worker
    event = {"kind": "controlled", "action": "resume"}
    assert talk("POST", "/studies/s/events", {"events": [event]}).status == 403
    tag = {"kind": "tagged", "add": ["y"]}
    assert talk("POST", "/studies/s/events", {"events": [tag]}).status == 200
    talk.close()
