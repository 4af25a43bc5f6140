"""Schemathesis reads our own description and sends whatever it can think of; the server must behave as described."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("schemathesis") is None, reason="needs schemathesis"),
]
SEED = os.environ.get("TUNEWRIGHT_FUZZ_SEED", "1")
EXAMPLES = os.environ.get("TUNEWRIGHT_FUZZ_EXAMPLES", "8")
# A value may have the right type and still make no sense for the study at hand: 422 says so and is described.
CONFIG = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "401", "403", "404", "409", "422", "501", "503"]
"""
SERVER = """
import sys
from pathlib import Path
from tunewright.store import wire
wire.LONGEST_WAIT = 0.5
from tunewright.store.urls import open_store
from tunewright.web.app import build
from tunewright.web.serving import Place, run
from tunewright.web.state import Settings
folder = Path(sys.argv[1])
settings = Settings(tokens=folder / "tokens.json", guesses=1e9, rate=1e9, burst=1e9, logs="none")
sys.exit(run(build(open_store(folder / "s.db"), settings), Place(port=0), lambda where: print(where, flush=True)))
"""


def test_the_server_behaves_as_it_is_described(tmp_path: Path) -> None:
    import tunewright as tw
    from tunewright.web.tokens import TokenFile

    token, _ = TokenFile(tmp_path / "tokens.json").new("admin")
    with tw.Study.open("s", {"x": tw.Float(0.0, 1.0)}, storage=tmp_path / "s.db", method="random") as study:
        for _ in range(3):
            study.ask()
    (tmp_path / "schemathesis.toml").write_text(CONFIG, encoding="utf-8")
    with (tmp_path / "server.log").open("w") as log:
        server = subprocess.Popen(
            [sys.executable, "-c", SERVER, str(tmp_path)], stdout=subprocess.PIPE, stderr=log, text=True
        )
    try:
        assert server.stdout is not None
        address = server.stdout.readline().strip()
        command = [
            sys.executable, "-m", "schemathesis.cli", "--config-file", str(tmp_path / "schemathesis.toml"), "run",
            f"{address}/api/v1/openapi.json", "-H", f"Authorization: Bearer {token}", "--checks", "all",
            "--max-examples", EXAMPLES, "--request-timeout", "40", "--seed", SEED, "--continue-on-failure", "--no-color",
        ]  # fmt: skip
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
    finally:
        server.terminate()
        assert server.wait(30) == 143
        if server.stdout is not None:
            server.stdout.close()
    said = done.stdout[-12_000:] + done.stderr[-2_000:]
    assert done.returncode == 0, said
    tested = re.search(r"Tested: (\d+)", done.stdout)
    assert tested is not None and int(tested[1]) > 20, said
    assert "Traceback" not in (tmp_path / "server.log").read_text(encoding="utf-8")
