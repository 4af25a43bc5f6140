"""``scale plan`` and ``scale check`` from the command line: what they print, their exit status, and mistakes."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path

import pytest

pytest.importorskip("torch")

from tunewright.cli import main

MLP = "tunewright.bench.micro:Mlp"
MODEL = """
    import torch
    from torch import nn

    def build(width=16, classes=3):
        return nn.Sequential(nn.Linear(5, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, classes))

    def batches(seed):
        g = torch.Generator().manual_seed(seed)
        while True:
            x = torch.randn(16, 5, generator=g)
            yield x, (x[:, :1] > 0).float().expand(-1, 3)

    def loss(output, target):
        return (output - target).abs().mean()

    def short(seed):
        return [next(batches(seed))]
"""


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["scale", *args])
    return int(stop.value.code or 0)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    name = f"model_{abs(hash(tmp_path.name))}"  # modules stay imported, so each test has its own
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(MODEL), encoding="utf-8")
    return f"{name}.py"


def test_a_plan_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run("plan", MLP, "--base", "width=32", "--to", "width=128", "--lr", "0.01", "--weight-decay", "0.1")
        == 0
    )
    out = capsys.readouterr().out
    assert "hidden.0.weight  hidden  128x128" in out and "x 0.25" in out
    assert "times 0.25 at the input of outlet" in out
    assert "rate 0.0025, weight decay 0.4: hidden.0.weight" in out


def test_a_plan_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        run("plan", MLP, "--base", "width=32", "--to", "width=64", "--lr", "0.01", "--json", "--folded") == 0
    )
    data = json.loads(capsys.readouterr().out)
    assert data["rule"] == "mup" and data["form"] == "folded" and data["multipliers"] == []
    assert data["rates"]["hidden.0.weight"] == pytest.approx(0.005)
    assert data["entries"]["hidden.0.weight"]["role"] == "hidden"


def test_a_check_of_a_file_passes_and_another_rule_fails(
    model: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    common = (
        f"{model}:build",
        "--base",
        "width=16",
        "--sizes",
        "width=16,64,256",
        "--seeds",
        "2",
        "--set",
        "classes=3",
    )
    chart = tmp_path / "chart.svg"
    assert run("check", *common, "--plot", str(chart)) == 0
    out = capsys.readouterr().out
    assert "pass: No change of an output follows the width" in out and "slope" in out
    assert chart.read_text(encoding="utf-8").startswith("<svg")
    assert run("check", *common, "--rule", "sp", "--json") == 1
    data = json.loads(capsys.readouterr().out)
    assert data["passed"] is False and data["checks"][0]["kind"] == "coordinates"
    assert "grows with the width" in data["checks"][0]["why"]


def test_every_kind_of_check_with_data_and_loss_of_the_user(
    model: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    kinds = [word for kind in ("rates", "sharpness") for word in ("--kind", kind)]
    mine = ["--data", f"{model}:batches", "--loss", f"{model}:loss", "--steps", "4", "--seeds", "2"]
    sizes = ["--base", "width=16", "--sizes", "width=16,32", "--rates", "0.001,0.004,0.016"]
    chart = tmp_path / "two.svg"
    status = run(
        "check", f"{model}:build", *kinds, *mine, *sizes, "--optimizer", "sgd", "--json", "--plot", str(chart)
    )
    data = json.loads(capsys.readouterr().out)
    assert status == (0 if data["passed"] else 1)
    rates, sharpness = data["checks"]
    assert rates["kind"] == "rates" and len(rates["losses"][0]) == 3 and rates["optimizer"] == "sgd"
    assert sharpness["kind"] == "sharpness" and sharpness["steps"] == [1, 2, 3, 4]
    assert chart.exists()


def test_the_warmup_probe(capsys: pytest.CaptureFixture[str]) -> None:
    blocks = (
        "tunewright.bench.micro:CharTransformer",
        "--base",
        "width=16",
        "--base",
        "depth=3",
        "--sizes",
        "width=16,32",
    )
    status = run("check", *blocks, "--kind", "warmup", "--json")
    data = json.loads(capsys.readouterr().out)
    assert status == (0 if data["passed"] else 1)
    assert set(data["checks"][0]["probes"]) == {"16", "32"}
    assert data["checks"][0]["probes"]["16"]["verdict"] in ("needed", "not needed", "unclear")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["plan", "Mlp", "--base", "width=32", "--to", "width=64"], "module:function or file.py:function"),
        (["plan", MLP, "--base", "width=3.5", "--to", "width=64"], "whole number"),
        (["plan", MLP, "--base", "width", "--to", "width=64"], "name=value"),
        (["plan", MLP, "--base", "width=32", "--to", "height=64"], "one of width"),
        (["plan", MLP, "--base", "width=32", "--to", "width=64", "--rule", "mupp"], "Did you mean 'mup'"),
        (
            ["plan", MLP, "--base", "width=32", "--to", "width=64", "--optimizer", "adamx"],
            "must be one of sgd",
        ),
        (["plan", MLP, "--base", "width=32", "--to", "width=64", "--lr", "-1"], "must be positive"),
        (["plan", MLP, "--base", "width=32", "--to", "width=64", "--role", "x"], "tensor=role"),
        (["plan", MLP, "--base", "width=32", "--to", "width=64", "--role", "x=input"], "matches none"),
        (["plan", "nowhere_at_all:f", "--base", "width=32", "--to", "width=64"], "must be a module"),
        (["check", MLP, "--base", "width=32", "--sizes", "width=a,b"], "whole numbers with commas"),
        (["check", MLP, "--base", "width=32", "--sizes", "depth=1,2"], "goes along width"),
        (["check", MLP, "--base", "width=32", "--sizes", "width=64"], "2 sizes or more"),
        (["check", MLP, "--base", "width=32", "--lr", "-1"], "--lr must be positive"),
        (["check", MLP, "--base", "width=32", "--kind", "rates", "--rates", "a"], "numbers with commas"),
        (["check", MLP, "--base", "width=32", "--kind", "warmup"], "two blocks"),
        (["check", MLP, "--base", "width=32", "--optimizer", "lion"], "PyTorch has no optimizer"),
    ],
)
def test_mistakes_are_said_in_a_sentence(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(*words) == 2
    err = capsys.readouterr().err
    assert says in err and "error[" in err and "Traceback" not in err


def test_batches_that_end_are_a_mistake(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", f"{model}:build", "--base", "width=16", "--data", f"{model}:short") == 2
    assert "ended before" in capsys.readouterr().err


def test_all_leaves_out_the_probe_of_a_model_without_blocks(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--base", "width=16", "--sizes", "width=16,32", "--steps", "2", "--seeds", "1"]
    run("check", MLP, *sizes, "--kind", "all", "--rates", "0.001,0.002,0.004", "--json")
    said = capsys.readouterr()
    assert [c["kind"] for c in json.loads(said.out)["checks"]] == ["coordinates", "rates", "sharpness"]
    assert "left out: " in said.err and "two blocks" in said.err


def test_there_is_nothing_to_draw_of_the_probe(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    blocks = (
        "tunewright.bench.micro:CharTransformer",
        "--base",
        "width=16",
        "--sizes",
        "width=16,32",
        "--kind",
        "warmup",
    )
    assert run("check", *blocks, "--plot", str(tmp_path / "x.svg")) == 2
    assert "Leave --plot out" in capsys.readouterr().err


# ---------------------------------------------------------------------- functions of users that are not as they should be

USERS = """
import torch
from torch import nn

def build(width=16):
    return nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 3))

def no_width(): return nn.Linear(3, 3)
def nothing(width=16): return None
def raises(width=16): raise RuntimeError("two\\nlines")
def empty(width=16): return nn.ReLU()
def deaf(width=16): return build(8)
def meta(width=16):
    with torch.device("meta"):
        return build(width)
def looks(width=16):
    rate = torch.linspace(0, 0.1, 3)[1].item()
    return nn.Sequential(nn.Linear(4, width), nn.Dropout(rate), nn.Linear(width, 3))
def compiled(width=16): return torch.compile(build(width), backend="eager")

class Chosen(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.a, self.b = nn.Linear(4, width), nn.Linear(width, 3)
    def forward(self, x):
        h = self.a(x)
        return self.b(h[h.sum(1) > -1e9])
def by_values(width=16): return Chosen(width)

def batches(seed):
    g = torch.Generator().manual_seed(seed)
    while True:
        x = torch.randn(8, 4, generator=g)
        yield x, (x[:, 0] > 0).long()
def no_batches(seed): return None
def of_another_model(seed):
    while True: yield torch.zeros(4, 5), torch.zeros(4).long()
def of_one(seed):
    while True: yield torch.zeros(4, 4)
def many(output, target): return output
def no_loss(): return 0
"""


@pytest.fixture
def users(tmp_path: Path) -> str:
    (tmp_path / "users.py").write_text(USERS)
    return str(tmp_path / "users.py")


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("no_width", "must take the sizes and fixed arguments by these names"),
        ("nothing", "nothing(width=16) must return a torch.nn.Module; got NoneType"),
        ("raises", "raises(width=16) must be a model; it raised RuntimeError: two lines."),
        ("empty", "this ReLU has none"),
        ("deaf", "Sizes must change the model"),
        ("bild", "there is none"),
    ],
)
def test_functions_that_give_no_model(
    users: str, function: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("plan", f"{users}:{function}", "--base", "width=16", "--to", "width=32") == 2
    error = capsys.readouterr().err
    assert says in error
    assert error.count("\n") == 1


def test_models_that_look_at_values_while_they_are_built_have_plans(
    users: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("plan", f"{users}:looks", "--base", "width=16", "--to", "width=32") == 0
    assert "times 0.5 at the input of 2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--to", "width=32", "--to", "width=64"], "given once; got width 2 times"),
        (["--to", "width=32", "--set", "width=8"], "width is both"),
        (["--to", "width=32", "--set", "depth=8"], "unexpected keyword argument 'depth'"),
        (["--to", "width=32", "--weight-decay", "0.1"], "without --lr"),
        (["--to", "width=32", "--lr", "0.1", "--weight-decay", "-1"], "0 or more; got --weight-decay -1"),
        (["--to", "width=32", "--lr", "inf"], "must be positive; got --lr inf"),
        (["--to", "width=32", "--role", "0.wight=input"], "Did you mean '0.weight'?"),
        (["--to", "wdth=32"], "one of width; got 'wdth'"),
    ],
)
def test_words_of_plan_that_cannot_be(
    users: str, words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("plan", f"{users}:build", "--base", "width=16", *words) == 2
    assert says in capsys.readouterr().err


def test_coupled_decay_is_warned_of(users: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--to", "width=32", "--lr", "0.1", "--weight-decay", "0.1", "--optimizer"]
    assert run("plan", f"{users}:build", "--base", "width=16", *words, "adam") == 0
    assert "take --optimizer adamw" in capsys.readouterr().err
    assert run("plan", f"{users}:build", "--base", "width=16", *words, "adamw") == 0
    assert not capsys.readouterr().err


@pytest.mark.parametrize("kind", ["coordinates", "rates", "sharpness"])
@pytest.mark.parametrize(
    ("option", "function", "says"),
    [
        ("--data", "no_batches", "with a yield"),
        ("--data", "of_another_model", "inputs [4, 5] and targets [4]; it raised RuntimeError"),
        ("--data", "of_one", "must be pairs of tensors"),
        ("--loss", "many", "single number; got a tensor of shape [8, 3]"),
        ("--loss", "no_loss", "takes 0 positional arguments"),
    ],
)
def test_data_and_losses_that_do_not_fit(
    users: str, kind: str, option: str, function: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--sizes", "width=16,32", "--steps", "2", "--seeds", "1", "--kind", kind]
    data = [] if option == "--data" else ["--data", f"{users}:batches"]
    assert (
        run("check", f"{users}:build", "--base", "width=16", *words, *data, option, f"{users}:{function}")
        == 2
    )
    assert says in capsys.readouterr().err


def test_a_model_without_values_cannot_be_checked(users: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", f"{users}:meta", "--base", "width=16") == 2
    assert "is on the meta device" in capsys.readouterr().err


def test_compiled_models_are_seen_into(users: str, capsys: pytest.CaptureFixture[str]) -> None:
    short = ["--sizes", "width=16,32", "--steps", "2", "--seeds", "2"]
    seen = []
    for function in ("build", "compiled"):
        assert run("check", f"{users}:{function}", "--base", "width=16", *short) in (0, 1)
        seen.append(capsys.readouterr().out)
        run("check", f"{users}:{function}", "--base", "width=16", *short, "--kind", "sharpness")
        seen.append(capsys.readouterr().out)
    assert seen[:2] == seen[2:]
    assert "output" in seen[0]


def test_models_whose_trainings_cannot_be_stacked_are_trained_one_by_one(
    users: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "--sizes",
        "width=16,32",
        "--steps",
        "2",
        "--seeds",
        "1",
        "--kind",
        "rates",
        "--data",
        f"{users}:batches",
    ]
    assert run("check", f"{users}:by_values", "--base", "width=16", *words, "--optimizer", "adam-atan2") == 2
    assert "many run stacked; Chosen is not" in capsys.readouterr().err
    assert run("check", f"{users}:by_values", "--base", "width=16", *words) in (0, 1)
    assert "weights" in capsys.readouterr().out


@pytest.mark.parametrize("optimizer", ["kfac", "shampoo"])
def test_rules_of_second_order_are_checked_with_their_optimizers(
    users: str, optimizer: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--sizes", "width=16,32", "--steps", "2", "--seeds", "2", "--data", f"{users}:batches"]
    code = run(
        "check",
        f"{users}:build",
        "--base",
        "width=16",
        "--rule",
        "second-order",
        "--optimizer",
        optimizer,
        *words,
    )
    assert code in (0, 1)
    assert "output" in capsys.readouterr().out


def test_a_chart_that_cannot_be_written(
    users: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "--sizes",
        "width=16,32",
        "--steps",
        "1",
        "--seeds",
        "1",
        "--plot",
        str(tmp_path / "no" / "x.svg"),
    ]
    assert run("check", f"{users}:build", "--base", "width=16", *words) == 2
    assert "where it can be written" in capsys.readouterr().err
