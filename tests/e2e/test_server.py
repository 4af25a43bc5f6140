"""``tunewright serve`` as a user starts it: the guide's curl example, tokens, and how it ends."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "server.md"
COMMAND = [sys.executable, "-m", "tunewright"]
QUIET = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A server in a folder, with its address."""
    command = [*COMMAND, "serve", "--port", "0", "--storage", str(folder / "s.db"), *options]
    server = subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True, env=QUIET)
    assert server.stderr is not None
    try:
        yield server.stderr.readline().split()[-1], server
    finally:
        if server.returncode is None:
            server.kill()
            server.communicate()


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """One command in a folder."""
    return subprocess.run(
        [*COMMAND, *words], cwd=folder, capture_output=True, text=True, env=QUIET, check=False
    )


def curled(*words: str) -> subprocess.CompletedProcess[str]:
    """What curl gets."""
    return subprocess.run(
        ["curl", "-s", "--max-time", "20", *words], capture_output=True, text=True, check=False
    )


def example() -> str:
    """The guide's example of a client that is only curl."""
    found = re.search(
        r"<!-- run by tests/e2e/test_server\.py -->\n```bash\n(.*?)```", GUIDE.read_text("utf-8"), re.DOTALL
    )
    assert found is not None
    return found[1]


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_example_of_the_guide_works_and_the_server_ends_well(tmp_path: Path) -> None:
    with serving(tmp_path) as (address, server):
        script = "set -e\n" + example().replace("http://127.0.0.1:8787", address)
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        answers: Sequence[str] = [line for line in done.stdout.replace("}{", "}\n{").splitlines() if line]
        created, asked, told, best = map(json.loads, answers)
        assert created["method"] == "tpe"
        assert set(asked["trials"][0]["config"]) == {"lr", "layers", "optimizer"}
        assert told["status"] == "completed"
        assert best["trials"][0]["metrics"] == {"loss": 0.25}
        server.send_signal(signal.SIGTERM)
        _, log = server.communicate(timeout=20)
    assert server.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in log
    lines = log.splitlines()
    assert any("POST /api/v1/studies/demo/ask 200" in line for line in lines)
    assert (
        json.loads(command(tmp_path, "best", "demo", "--storage", "s.db", "--json").stdout)["metrics"]["loss"]
        == 0.25
    )


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_with_a_token_nobody_comes_in_without(tmp_path: Path) -> None:
    where = ("--storage", "s.db")
    first = command(tmp_path, "token", "new", "--scope", "admin", *where)
    token = first.stdout.strip()
    assert re.fullmatch(r"tw_[0-9a-f]{8}_[\w-]{43}", token), first
    assert token not in (tmp_path / "tokens.json").read_text("utf-8")
    (listed,) = json.loads(command(tmp_path, "token", "list", "--json", *where).stdout)
    assert (listed["scope"], listed["studies"]) == ("admin", ["*"])
    with serving(tmp_path, "--logs", "json") as (address, server):
        bearer = f"Authorization: Bearer {token}"
        assert "TW0" not in curled("-H", bearer, f"{address}/api/v1/studies?secret=canary").stdout
        assert '"code":"HTTP"' in curled(f"{address}/api/v1/studies").stdout
        new = command(tmp_path, "token", "rotate", listed["id"], "--grace", "1s", "--json", *where)
        for _ in range(40):
            time.sleep(0.1)
            if (
                curled(
                    "-o", "/dev/null", "-w", "%{http_code}", "-H", bearer, f"{address}/api/v1/studies"
                ).stdout
                == "401"
            ):
                break
        else:
            pytest.fail("the old token is still accepted")
        bearer = f"Authorization: Bearer {json.loads(new.stdout)['token']}"
        assert curled("-H", bearer, f"{address}/api/v1/studies").stdout == "[]"
        server.send_signal(signal.SIGINT)
        _, log = server.communicate(timeout=20)
    assert server.returncode == 128 + signal.SIGINT
    assert token not in log and "canary" not in log and "Bearer" not in log
    assert {json.loads(line)["status"] for line in log.splitlines()} >= {200, 401}
    assert command(tmp_path, "token", "revoke", "nobody", *where).returncode == 2


@pytest.mark.slow
def test_a_server_that_others_could_reach_does_not_start(tmp_path: Path) -> None:
    for options in (
        ["--host", "0.0.0.0"],
        ["--host", "0.0.0.0", "--behind-proxy"],
        ["--cert", "nothing.pem"],
    ):
        done = command(tmp_path, "serve", "--port", "0", "--storage", "s.db", *options)
        assert done.returncode == 2, done.stderr
        assert "TW020" in done.stderr
    command(tmp_path, "token", "new", "--storage", "s.db")
    done = command(tmp_path, "serve", "--port", "0", "--storage", "s.db", "--host", "0.0.0.0")
    assert (done.returncode, "TLS" in done.stderr) == (2, True)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_killed_server_loses_nothing_and_no_worker(tmp_path: Path) -> None:
    import tunewright as tw

    with serving(tmp_path) as (address, server):
        study = tw.Study.open("s", {"x": tw.Float(0.0, 1.0)}, storage=address, method="random")
        kept = study.ask()
        assert kept is not None
        for _ in range(5):
            asked = study.ask()
            assert asked is not None
            asked.tell(0.5)
        port = address.rpartition(":")[2]
        server.kill()
        server.communicate()
        again = subprocess.Popen(
            [*COMMAND, "serve", "--port", port, "--storage", str(tmp_path / "s.db"), "--logs", "none"],
            cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=QUIET,
        )  # fmt: skip
        try:
            kept.tell(0.25)
            assert study.counts == {"completed": 6}
            assert study.best.metrics == {"loss": 0.25}
        finally:
            study.close()
            again.terminate()
            again.communicate(timeout=30)


@pytest.mark.slow
def test_a_server_has_a_store_of_its_own(tmp_path: Path) -> None:
    done = command(tmp_path, "serve", "--port", "0", "--storage", "http://127.0.0.1:1")
    assert (done.returncode, "another server" in done.stderr) == (2, True), done.stderr
    with serving(tmp_path) as (_, server):
        server.send_signal(signal.SIGTERM)
        _, log = server.communicate(timeout=20)
    assert (server.returncode, log) == (128 + signal.SIGTERM, "")
