"""A study with a scale through the interface: sizes beside points, what they say of the target, and one file with all of it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from asgi_client import Talk

import tunewright as tw
from tunewright.scaling import Scale
from tunewright.store.memory import MemoryStore
from tunewright.web.export import page

SCALE = Scale({"width": (64, 1024)}, [{"width": 64}, {"width": 128}], steps=(4, 4, 16))


def train(trial: tw.Attempt) -> None:
    for step in trial.steps():
        trial.report(step, loss=1 + 0.05 * (math.log2(trial["lr"]) + 7) ** 2 + 0.1 / step)


@pytest.fixture(scope="module")
def talk() -> Iterator[Talk]:
    store = MemoryStore(expiring=True)
    space = tw.Space(lr=tw.Float(1e-4, 1.0, log=True))
    tw.Study.open("p", space, scale=SCALE, method="asha(random)", storage=store).run(
        train, trials=24, progress="none"
    )
    tw.Study.open("plain", space, method="random", storage=store).run(
        lambda trial: 1.0, trials=3, progress="none"
    )
    found = Talk(store)
    yield found
    found.close()


def got(talk: Talk, path: str) -> Any:
    answer = talk("GET", path)
    assert answer.status == 200, answer.body
    return answer.json


def test_the_answer_is_that_of_python(talk: Talk) -> None:
    study = tw.Study.open("p", storage=talk.store, exist="must")
    assert got(talk, "/studies/p/transfer") == json.loads(json.dumps(study.transfer().to_dict()))
    given = got(talk, "/studies/p/transfer?horizon=0.5&parameter=lr")
    assert given == json.loads(json.dumps(study.transfer("lr", 0.5).to_dict()))
    assert got(talk, "/studies/p/charts/transfer?horizon=published")["kind"] == "transfer"
    assert "transfer" in [line["kind"] for line in got(talk, "/studies/p/charts")]
    assert "transfer" not in [line["kind"] for line in got(talk, "/studies/plain/charts")]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/studies/plain/transfer", "needs a study with a scale"),
        ("/studies/p/transfer?horizon=later", "horizon must be"),
        ("/studies/p/transfer?horizon=nan", "horizon must be"),
        ("/studies/p/transfer?parameter=width", "follows one parameter on a log scale"),
        ("/studies/p/transfer?speed=3", "takes parameter and horizon"),
        ("/studies/p/transfer?horizon=" + "9" * 300, "up to 200 characters"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_sentence(talk: Talk, path: str, words: str) -> None:
    answer = talk("GET", path)
    assert answer.status == 422
    assert words in answer.json["error"]["message"]


def test_columns_say_what_points_mean(talk: Talk) -> None:
    sent = got(talk, "/studies/p/columns")
    assert sent["sizes"] == ["width 64", "width 128"]
    assert sent["places"] == {str(step): SCALE.words(step) for step in set(sent["step"])}
    plain = got(talk, "/studies/plain/columns")
    assert (plain["sizes"], plain["places"]) == ([], {})


def test_a_trial_says_its_size_and_those_of_its_measurements(talk: Talk) -> None:
    best = got(talk, "/studies/p/overview")["best"]
    assert best["place"]["words"] == "width 128 · step 4"
    trial = got(talk, f"/studies/p/trials/{best['number']}")
    assert trial["place"] == {"sizes": {"width": 128}, "step": 4, "words": "width 128 · step 4"}
    assert [r["words"] for r in trial["reports"]] == [SCALE.words(r["step"]) for r in trial["reports"]]
    assert [r["across"] for r in trial["reports"]] == pytest.approx(
        [SCALE.across(r["step"]) for r in trial["reports"]]
    )
    assert "place" not in got(talk, "/studies/plain/trials/0")
    assert all("place" in t for t in got(talk, "/studies/p/trials")["trials"])


def test_a_file_holds_the_answer_and_its_chart(talk: Talk) -> None:
    text = page(talk.store, "p").decode()
    kept = json.loads(text.partition('id="tunewright-data">')[2].partition("</script>")[0])
    root = "/api/v1/studies/p"
    assert kept[f"{root}/transfer"]["target"]["name"] == "width 1,024"
    assert kept[f"{root}/charts/transfer"]["panels"]
    assert "/api/v1/studies/plain/transfer" not in page(talk.store, "plain").decode()


def test_tables_that_are_sent_have_sizes(talk: Talk) -> None:
    head = talk("GET", "/studies/p/export?format=csv").body.decode().splitlines()[0]
    assert "size.width,size.step" in head
    line = json.loads(talk("GET", "/studies/p/export?format=jsonl").body.decode().splitlines()[0])
    assert line["place"]["sizes"]["width"] in (64, 128)
    assert "size." not in talk("GET", "/studies/plain/export?format=csv").body.decode().splitlines()[0]
