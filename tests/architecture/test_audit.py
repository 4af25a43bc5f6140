"""The look for known holes: what it finds fails, and what it could not ask about is never called a pass."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import Any

import house
import pytest

AUDIT = house.ROOT / ".ci" / "audit.py"


@pytest.fixture
def audit(monkeypatch: pytest.MonkeyPatch) -> Any:
    spec = importlib.util.spec_from_file_location("audit_script", AUDIT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "bandit", lambda: True)
    monkeypatch.setattr(sys, "argv", ["audit"])
    return module


FINE = {"name": "numpy", "version": "2.0", "vulns": []}
HOLE = {"name": "click", "version": "8.0", "vulns": [{"id": "CVE-2099-1"}]}
SKIPPED = {"name": "rich", "skip_reason": "not found"}


@pytest.mark.parametrize(
    ("answers", "code", "words"),
    [
        ({"pypi": [FINE]}, 0, "0 known holes"),
        ({"pypi": [FINE, HOLE]}, 1, "HOLE click 8.0: CVE-2099-1"),
        ({"pypi": [FINE, SKIPPED], "osv": None}, 0, "1 packages could NOT be looked up"),
        (
            {"pypi": [FINE, SKIPPED], "osv": [FINE, {"name": "rich", "version": "1", "vulns": []}]},
            0,
            "0 known holes",
        ),
        (
            {"pypi": [SKIPPED], "osv": [{"name": "rich", "version": "1", "vulns": [{"id": "X-1"}]}]},
            1,
            "HOLE rich 1: X-1",
        ),
        ({"pypi": None, "osv": None}, 0, "this is no pass"),
    ],
)
def test_what_is_found_and_what_is_not_known(
    audit: Any, answers: dict[str, Any], code: int, words: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(audit, "advisories", lambda service, seconds: answers.get(service))
    assert audit.main() == code
    out, err = capsys.readouterr()
    assert words in out + err
    monkeypatch.setattr(sys, "argv", ["audit", "--strict"])
    assert audit.main() == int(bool(code) or "NOT" in err)


def test_a_finding_in_our_own_code_fails(audit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "advisories", lambda service, seconds: [FINE])
    monkeypatch.setattr(audit, "bandit", lambda: False)
    assert audit.main() == 1


def test_what_is_installed_is_listed(audit: Any) -> None:
    document = audit.sbom()
    names = {part["name"] for part in document["components"]}
    assert {"numpy", "click", "msgspec"} <= names
    assert audit.OURS not in names
    assert all(part["purl"].startswith("pkg:pypi/") for part in document["components"])


@pytest.mark.slow
def test_our_own_code_is_clean() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bandit", "-q", "-r", "src", "-c", "pyproject.toml"],
        cwd=house.ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
