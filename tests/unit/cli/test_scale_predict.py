"""``scale predict``: every law side by side, a law of one's own, and plain refusals."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from tunewright.cli.scale_predict import predict
from tunewright.errors import ConfigError
from tunewright.scaling import laws


def said(*args):
    result = CliRunner().invoke(predict, list(args), catch_exceptions=False)
    assert result.exit_code == 0
    return result


def test_recommendations_stand_side_by_side_with_their_conflicts():
    result = said("--params", "1B", "--tokens", "1e11", "--base-lr", "3e-3", "--base-tokens", "30B")
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["quantity", "law", "value", "95", "%", "unit", "box", "constants"]
    assert any("step-law-lr" in line and "0.001632" in line and "inside" in line for line in lines)
    assert "conflict: step-law-lr and token-horizon" in result.stderr
    assert "doubtful: critical-batch-chinchilla: it holds at about 20 tokens per parameter" in result.stderr
    assert "flops = 6 x params x tokens" in result.stderr


def test_json_is_one_document_with_everything():
    data = json.loads(said("--flops", "1e21", "--json").stdout)
    found = {law["law"]: law for law in data["laws"]}
    assert found["chinchilla-params"]["value"] == pytest.approx(
        laws.get("chinchilla-params").evaluate(flops=1e21)
    )
    assert found["chinchilla-params"]["paper"]
    assert data["unasked"]["step-law-lr"] == ["params", "tokens"]


def test_one_law_can_be_asked_and_pushed_beyond_its_box():
    asked = said("--params", "70B", "--tokens", "1.4T", "--law", "step-law-lr")
    assert "refused: step-law-lr answers up to a factor of 10" in asked.stderr
    pushed = said("--params", "70B", "--tokens", "1.4T", "--law", "step-law-lr", "--extrapolate")
    assert "outside" in pushed.stdout
    assert "64.8 times outside" in pushed.stderr


def test_wrong_units_are_refused():
    with pytest.raises(ConfigError, match=r"params must be counted in parameters; got 7, .* 7e\+09"):
        CliRunner().invoke(predict, ["--params", "7", "--tokens", "100B"], catch_exceptions=False)


def table(path, spoiled=False):
    rows = ["params,tokens,loss"]
    law = laws.get("chinchilla-loss")
    for n in (2e7, 8e7, 3e8):
        for ratio in (5, 20, 80):
            loss = law.evaluate(params=n, tokens=n * ratio)
            rows.append(
                f"{n:g},{n * ratio / 1e9:g}B,{'nan' if spoiled and n == 2e7 and ratio == 5 else loss}"
            )
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return str(path)


def test_runs_of_my_own_give_a_law_beside_the_others(tmp_path):
    result = said("--params", "200M", "--tokens", "4B", "--fit", table(tmp_path / "runs.csv"), "--json")
    found = {law["law"]: law for law in json.loads(result.stdout)["laws"]}
    assert found["my-loss"]["value"] == pytest.approx(found["chinchilla-loss"]["value"], rel=5e-3)
    assert found["my-loss"]["confidence"] == "fitted here"
    assert "fitted my-loss: E " in result.stderr


def test_diverged_runs_in_the_table_are_named_or_dropped(tmp_path):
    path = table(tmp_path / "runs.csv", spoiled=True)
    with pytest.raises(ConfigError, match="got run 0"):
        CliRunner().invoke(
            predict, ["--params", "200M", "--tokens", "4B", "--fit", path], catch_exceptions=False
        )
    assert "my-loss" in said("--params", "200M", "--tokens", "4B", "--fit", path, "--drop-diverged").stdout


def test_a_cell_that_is_no_number_is_shown_with_its_row(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("params,tokens,loss\n1e8,many,3\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="Row 1, column tokens"):
        CliRunner().invoke(predict, ["--params", "1e8", "--fit", str(path)], catch_exceptions=False)


def test_a_file_that_is_no_table_is_refused(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_bytes(b"\xff\xfe\x00binary")
    with pytest.raises(ConfigError, match="must be a CSV file in UTF-8"):
        CliRunner().invoke(predict, ["--params", "1e8", "--fit", str(path)], catch_exceptions=False)
    path.write_text("", encoding="utf-8")
    with pytest.raises(ConfigError, match="A table must have params, tokens and loss"):
        CliRunner().invoke(predict, ["--params", "1e8", "--fit", str(path)], catch_exceptions=False)


def test_predicting_loads_no_torch():
    code = (
        "import sys\nfrom tunewright.scaling import laws\nlaws.recommend(params=1e9, tokens=1e11)\n"
        "print('torch' in sys.modules, 'scipy' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["False", "False"]


def test_a_law_that_is_asked_for_shows_its_source_and_conditions():
    done = said("--params", "1B", "--tokens", "20B", "--law", "porian-lr", "--law", "deepseek-lr")
    assert "porian-lr: 3.7 N^-0.36 (Porian et al. 2024" in done.stdout
    assert "multi-step schedule" in done.stdout
    assert "take the one whose conditions are yours" in done.stderr


def test_options_are_named_as_options(tmp_path):
    far = said("--params", "70B", "--tokens", "1.4T", "--law", "step-law-lr")
    assert "Pass --extrapolate" in far.stderr
    table = tmp_path / "runs.csv"
    table.write_text("params,tokens,loss\n1e7,1e9,nan\n")
    with pytest.raises(ConfigError, match="Pass --drop-diverged"):
        said("--params", "1B", "--tokens", "20B", "--fit", str(table))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("params,tokens,loss\n1e7,1e9\n", "row 1 has 2 for 3"),
        ("params,tokens,loss\n1e7,1e9,4,5\n", "row 1 has 4 for 3"),
        ("params,tokens,loss\n1e7,1e9,4\n1e7,x,4\n", "Row 2, column tokens"),
        ("a,b\n1,2\n", "A table must have params, tokens and loss"),
        ("", "A table must have params, tokens and loss"),
    ],
)
def test_tables_that_cannot_be(tmp_path, text, says):
    table = tmp_path / "runs.csv"
    table.write_text(text)
    with pytest.raises(ConfigError, match=says):
        said("--params", "1B", "--tokens", "20B", "--fit", str(table))


def test_tables_as_spreadsheets_write_them(tmp_path):
    rows = ["Run; Params ;TOKENS; Best"]
    for i, n in enumerate((1e7, 3e7, 1e8, 3e8, 1e9, 2e9)):
        rows.append(f"r{i};{n};{20 * n};{3.7 * n**-0.36}")
    table = tmp_path / "runs.csv"
    text = "\ufeff" + "\r\n".join(rows).replace("Best", "lr").replace("TOKENS", "tokens (all)")
    table.write_text(text, encoding="utf-8")
    done = said("--params", "1B", "--fit", str(table), "--law", "porian-lr")
    assert "exponent_params -0.36" in done.stderr
