"""What pages look at: studies at a glance, columns with marks and compression, words, charts, output, comparisons."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from asgi_client import Talk, made

from tunewright.analysis import plots
from tunewright.analysis.charted import Charted
from tunewright.analysis.drawing import Figure
from tunewright.core.domains import Choice, Float
from tunewright.errors import ConfigError
from tunewright.run.child import log_path
from tunewright.store.memory import MemoryStore
from tunewright.study import Study
from tunewright.web.comparing import named
from tunewright.web.looking import tail
from tunewright.web.packing import Packed, known

NASTY = '</script><img src=x onerror=alert(1)>"%s/..?#'
GZIP = [("accept-encoding", "br, gzip;q=0.8")]


def filled(talk: Talk, name: str = "s", trials: int = 12, **more: Any) -> Study:
    """A study with results."""
    more = {"minimize": "loss", "method": "random", **more}
    study = Study.open(name, {"x": Float(0.0, 1.0), "o": Choice(["a", "b"])}, storage=talk.store, **more)
    for _ in range(trials):
        trial = study.ask()
        study.tell(trial, {"loss": (trial.params["x"] - 0.3) ** 2, "other": 1.0})
    return study


def test_the_board_says_how_each_study_is(talk: Talk) -> None:
    assert talk("GET", "/board").json["studies"] == []
    filled(talk, trials=3)
    later = filled(talk, "two", 0, minimize=["loss", "other"])
    later.tag("night", "gpu")
    later.tag(remove="gpu")
    later.pause()
    found = talk("GET", "/board").json
    assert (found["rights"], found["readonly"]) == ("admin", False)
    two, one = found["studies"]
    assert (two["name"], two["state"], two["tags"], two["best"]) == ("two", "paused", ["night"], None)
    assert [o["name"] for o in two["objectives"]] == ["loss", "other"]
    assert (one["state"], one["counts"], one["workers"]) == ("idle", {"completed": 3}, 0)
    study = Study.open("s", storage=talk.store, exist="must")
    assert (one["best"], one["best_trial"]) == (study.best.metrics["loss"], study.best.number)
    study.ask()
    running = talk("GET", "/board").json["studies"][1]
    assert (running["state"], running["workers"], running["counts"]["running"]) == ("running", 1, 1)
    later.stop()
    assert talk("GET", "/board").json["studies"][0]["state"] == "done"
    assert talk("GET", "/studies/s/overview").json["state"] == "running"


def test_who_sees_a_part_sees_a_board_of_it(tmp_path: Path) -> None:
    path, (reader, worker) = made(tmp_path, ("read", "s"), ("worker", "t*"))
    talk = Talk(tokens=path)
    for name in ("s", "t"):
        filled(talk, name, 1)
    assert [s["name"] for s in talk("GET", "/board", token=reader).json["studies"]] == ["s"]
    found = talk("GET", "/board", token=worker).json
    assert ([s["name"] for s in found["studies"]], found["rights"]) == (["t"], "worker")
    assert talk("GET", "/studies/s/compare?with=t", token=reader).status == 404
    assert talk("GET", "/studies/s/columns", token=worker).status == 404
    talk.close()


def test_a_server_that_only_shows_refuses_every_change(tmp_path: Path) -> None:
    talk = Talk(readonly=True)
    filled(talk, trials=2)
    found = talk("GET", "/board").json
    assert (found["rights"], found["readonly"]) == ("read", True)
    for method, path, body in (
        ("POST", "/studies/s/queue", {"params": {"x": 0.5}}),
        ("POST", "/studies/s/control", {"action": "pause"}),
        ("POST", "/studies/s/notes", {"text": "hi"}),
        ("POST", "/studies", {"name": "new", "space": {"x": "0.0..1.0"}}),
        ("DELETE", "/studies/s", None),
    ):
        got = talk(method, path, body)
        assert (got.status, "--read-only" in got.json["error"]["message"]) == (403, True)
    assert talk("GET", "/studies/s/columns").status == 200
    talk.close()


def test_columns_are_compressed_and_not_sent_twice(talk: Talk) -> None:
    study = filled(talk, trials=40)
    plain = talk("GET", "/studies/s/columns")
    small = talk("GET", "/studies/s/columns", headers=GZIP)
    assert small.headers["content-encoding"] == "gzip"
    assert gzip.decompress(small.body) == plain.body
    assert small.headers["content-length"] == str(len(small.body))
    mark = [("if-none-match", small.headers["etag"])]
    again = talk("GET", "/studies/s/columns", headers=[*GZIP, *mark])
    assert (again.status, again.body, again.headers["etag"]) == (304, b"", small.headers["etag"])
    study.tell(study.ask(), 1.0)
    assert talk("GET", "/studies/s/columns", headers=mark).status == 200
    rev = plain.json["rev"]
    more = talk("GET", f"/studies/s/columns?since={rev}").json
    assert (more["whole"], more["number"], more["n"], more["rev"]) == (False, [40], 41, rev + 2)
    assert (
        "content-encoding"
        not in talk("GET", "/studies/s/columns", headers=[("accept-encoding", "gzip;q=0")]).headers
    )
    assert talk("GET", "/studies/s/columns?since=x").status == 422


def test_a_study_made_anew_under_its_name_is_another_one(talk: Talk) -> None:
    filled(talk, trials=3)
    before = talk("GET", "/studies/s/columns").json
    assert talk("DELETE", "/studies/s").status == 204
    filled(talk, trials=1)
    after = talk("GET", f"/studies/s/columns?since={before['rev']}").json
    assert (after["whole"], after["n"], after["created"] > before["created"]) == (True, 1, True)


def test_marks() -> None:
    assert known(b'W/"a", "b"', b'"b"')
    assert known(b"*", b'"b"')
    assert not known(b'"a"', b'"b"')
    assert Packed(b"x" * 10, "m").small is None
    assert Packed(bytes(range(256)) * 5, "m").small is not None


def test_an_overview_says_what_is_known(talk: Talk) -> None:
    empty = Study.open("s", {"x": Float(0.0, 1.0)}, storage=talk.store, minimize="loss", method="random")
    found = talk("GET", "/studies/s/overview").json
    assert found["insight"] == "No trial has begun yet."
    assert (found["best"], found["gain"], found["stop"]) == (None, None, "")
    assert found["advice"] == ["Begin with 'tunewright run', or with study.run in Python."]
    empty.tell(empty.ask(), outcome="failed", error="no")
    assert (
        talk("GET", "/studies/s/overview").json["insight"]
        == "No trial has a result yet; 1 began and 1 failed."
    )
    assert "1 of 1 trials failed" in talk("GET", "/studies/s/overview").json["advice"][0]
    study = filled(talk, "full", 30)
    study.enqueue({"x": 0.5})
    found = talk("GET", "/studies/full/overview").json
    assert found["best"]["number"] == study.best.number
    assert found["best"]["params"] == study.best.params
    assert "than trial 0" in found["gain"]
    assert found["insight"].startswith("The best loss of 30 results is")
    assert found["stop"].startswith(("Worth going on", "Worth ending"))
    assert found["queued"] == 1
    assert found["eta"] == {"trials": None, "done": 30, "per_minute": None, "seconds": None}
    assert any("tunewright confirm full" in a for a in found["advice"])
    study.session.note("command", {"argv": ["python", "t.py", "--x={x}"], "limits": {"trials": 60}})
    trial = study.ask()
    found = talk("GET", "/studies/full/overview").json
    assert found["eta"]["trials"] == 60
    assert found["eta"]["per_minute"] > 0
    assert found["eta"]["seconds"] > 0
    (working,) = found["workers"]
    assert (working["trial"], working["silent"]) == (trial.number, False)


def test_an_overview_of_several_objectives_has_a_front(talk: Talk) -> None:
    study = Study.open("s", {"x": Float(0.0, 1.0)}, storage=talk.store, minimize=["a", "b"], method="random")
    for a, b in ((1.0, 2.0), (2.0, 1.0), (3.0, 3.0)):
        study.tell(study.ask(), {"a": a, "b": b})
    found = talk("GET", "/studies/s/overview").json
    assert (found["pareto"], found["best"]) == ([0, 1], None)
    assert found["insight"].startswith("2 of 3 results are on the front")


def test_the_defaults_are_what_the_best_is_compared_with(talk: Talk) -> None:
    study = Study.open("s", {"x": Float(0.0, 1.0)}, storage=talk.store, minimize="loss", method="random")
    study.session.enqueue({"x": 0.9}, key="defaults")
    for value in (1.0, 0.5):
        study.tell(study.ask(), value)
    found = talk("GET", "/studies/s/overview").json
    assert found["default"] == {"trial": 0, "value": 1.0}
    assert found["gain"] == "0.5 (50.0%) better than your defaults, which got 1"


def test_charts_are_made_once_and_say_why_not(talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(talk, trials=20)
    made = []

    def chart(study: Charted, metric: str = "", top: int = 3) -> Figure:
        made.append((metric, top))
        if metric == "none":
            raise ConfigError("Too few results. Wait.")
        return original(study)

    original = plots.KINDS["timeline"]
    monkeypatch.setitem(plots.KINDS, "timeline", chart)
    first = talk("GET", "/studies/s/charts/timeline")
    assert (first.status, first.json["kind"]) == (200, "timeline")
    assert talk("GET", "/studies/s/charts/timeline").body == first.body
    found = talk.together(*[("GET", "/studies/s/charts/timeline?metric=other&top=5")] * 4)
    assert {g.status for g in found} == {200}
    assert made == [("", 3), ("other", 5)]
    refused = talk("GET", "/studies/s/charts/timeline?metric=none")
    assert (refused.status, refused.json["error"]["message"]) == (422, "Too few results. Wait.")
    for query in (f"metric={'x' * 300}", "top=many", "study=s", "absent=1", "%00=1"):
        assert talk("GET", f"/studies/s/charts/timeline?{query}").status == 422
    assert (
        talk("GET", "/studies/s/charts/timeline", headers=[("if-none-match", first.headers["etag"])]).status
        == 304
    )
    monkeypatch.undo()
    assert talk("GET", "/studies/s/charts/absent").status == 422


def test_charts_listed_can_be_asked_for(talk: Talk) -> None:
    filled(talk, trials=15)
    found = talk("GET", "/studies/s/charts").json
    kinds = {c["kind"] for c in found}
    assert {"history", "timeline"} <= kinds
    assert "pareto" not in kinds
    assert all(c["title"] and c["page"] for c in found)


def test_output_is_shown_from_its_end(talk: Talk) -> None:
    study = filled(talk, trials=1)
    assert talk("GET", "/studies/s/trials/0/log").status == 404
    path = log_path(talk.store.blobs(study.session.info.id), 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"first line\nsecond \xff line\n" + NASTY.encode() + b"\n")
    got = talk("GET", "/studies/s/trials/0/log")
    assert got.headers["content-type"].startswith("text/plain")
    assert got.headers["x-content-type-options"] == "nosniff"
    assert got.body.decode().splitlines() == ["first line", "second \ufffd line", NASTY]
    assert tail(path, 20 + len(NASTY)) == b"second \xef\xbf\xbd line\n" + NASTY.encode() + b"\n"
    assert tail(path, 10) == NASTY.encode()[-9:] + b"\n"
    assert talk("GET", "/studies/s/trials/0/log?tail=0").status == 422
    assert talk("GET", "/studies/s/trials/7/log").status == 404


def test_parameters_can_be_copied(talk: Talk) -> None:
    study = filled(talk, trials=1)
    found = talk("GET", "/studies/s/trials/0/copy").json
    params = study.trials[0].params
    assert (found["command"], found["python"]) == (None, f"train(x={params['x']!r}, o={params['o']!r})")
    assert json.loads(found["json"]) == params
    study.session.note("command", {"argv": ["python", "t.py", "--x={x}"], "function": ""})
    assert talk("GET", "/studies/s/trials/0/copy").json["command"] == f"python t.py --x={params['x']}"
    assert talk("GET", "/studies/s/trials/1/copy").status == 404


def test_looking_never_needs_the_method(talk: Talk) -> None:
    filled(talk, trials=2)
    for path in ("", "/trials", "/trials/0", "/best", "/notes", "/overview", "/columns", "/charts/timeline"):
        assert talk("GET", f"/studies/s{path}").status == 200
    assert talk.app.state.shelf.opened == 0


def test_studies_of_several_seeds_are_one_line_with_an_interval(talk: Talk) -> None:
    for method in ("random", "quasirandom"):
        for seed in range(3):
            filled(talk, f"{method}-seed{seed}", 6, method=method, seed=seed)
    filled(talk, "max", 2, minimize="", maximize="loss")
    others = "random-seed1,random-seed2,quasirandom-seed0,quasirandom-seed1,quasirandom-seed2"
    found = talk("GET", f"/studies/random-seed0/compare?with={others}").json
    assert [s["group"] for s in found["studies"]] == ["random"] * 3 + ["quasirandom"] * 3
    marks = found["figure"]["panels"][0]["marks"]
    assert [m["type"] for m in marks] == ["band", "line", "band", "line"]
    assert all(low <= high for low, high in zip(marks[0]["low"], marks[0]["high"], strict=True))
    assert [r["trials"] for r in found["rows"]] == [1, 2, 5, 6]
    assert "over 3 studies" in found["sentence"]
    pair = talk("GET", "/studies/random-seed0/compare?with=quasirandom-seed0").json
    assert "repeat them with other seeds" in pair["sentence"]
    unlike = talk("GET", "/studies/random-seed0/compare?with=max").json
    assert (unlike["figure"], unlike["sentence"][:31]) == (None, "They optimise different things,")
    assert talk("GET", "/studies/random-seed0/compare?with=absent").status == 404
    assert talk("GET", f"/studies/max/compare?with={','.join(map(str, range(30)))}").status == 422
    assert talk("GET", "/studies/max/compare").json["sentence"].startswith("Name at least two")


def test_names_with_commas() -> None:
    assert named("a,b,c,,d", {"b,c", "a"}) == ["a", "b,c", "d"]
    assert named("", set()) == []


def test_methods_come_with_what_was_found_out(talk: Talk) -> None:
    found = talk("GET", "/methods").json
    methods = {m["name"]: m for m in found["methods"]}
    assert methods["asha"]["claims"][0]["verdict"] in ("holds", "holds at reduced scale", "not reproduced")
    assert {m["kind"] for m in found["methods"]} == {
        "sampler",
        "scheduler",
        "policy",
        "inside",
        "removing",
        "predicting",
    }
    assert len(found["claims"]) > 50


def test_hostile_names_and_values_stay_data(talk: Talk) -> None:
    study = Study.open(
        NASTY, {NASTY: Choice([NASTY, "b"])}, storage=talk.store, minimize="loss", method="random"
    )
    study.tell(study.ask(), 1.0)
    key = f"@{study.session.info.id}"
    for path in ("columns", "overview", "trials/0", "trials/0/copy", "charts", "charts/timeline", "compare"):
        got = talk("GET", f"/studies/{key}/{path}")
        assert got.status == 200
        assert got.headers["content-type"] == "application/json"
    assert talk("GET", f"/studies/{key}/columns").json["params"][0]["labels"][0] == NASTY
    assert talk("GET", "/board").json["studies"][0]["name"] == NASTY
    got = talk("GET", f"/studies/{key}/export?format=csv")
    assert (
        got.headers["content-disposition"] == 'attachment; filename="script-img-src-x-onerror-alert-1-s.csv"'
    )


def test_a_store_in_memory_has_columns_too() -> None:
    talk = Talk(MemoryStore(expiring=True))
    filled(talk, trials=2)
    assert talk("GET", "/studies/s/columns").json["n"] == 2
    talk.close()
