"""Looks for known holes: in our code with bandit, and in what is installed beside it with pip-audit.

``python .ci/audit.py`` fails when it finds one. What nobody could be asked about, because there is no network or the
package index has no advisories, is said loudly and is no pass: with ``--strict`` it fails as well. ``--sbom FILE`` also
writes what is installed as CycloneDX, with no network needed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SERVICES = ("pypi", "osv")
OURS = "tunewright"


def bandit() -> bool:
    """Whether our code is clean; findings are printed."""
    command = [sys.executable, "-m", "bandit", "-q", "-r", "src", "-c", "pyproject.toml"]
    return subprocess.run(command, cwd=ROOT, check=False).returncode == 0


def advisories(service: str, seconds: float) -> list[dict[str, Any]] | None:
    """What an advisory service knows of each installed package; None when it cannot be asked."""
    command = [
        sys.executable,
        "-m",
        "pip_audit",
        "--local",
        "--progress-spinner",
        "off",
        "-f",
        "json",
        "-s",
        service,
    ]
    try:
        done = subprocess.run(
            [*command, "--timeout", "10"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
        found: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        return None
    return found


def packages(seconds: float = 120.0) -> tuple[list[str], list[str], int]:
    """Known holes, packages that nobody could be asked about, and how many were looked up."""
    holes: list[str] = []
    unknown: set[str] | None = None
    for service in SERVICES:
        found = advisories(service, seconds)
        if found is None:
            continue
        asked = [p for p in found if p["name"] != OURS]
        holes += [f"{p['name']} {p['version']}: {v['id']}" for p in asked for v in p.get("vulns", ())]
        skipped = {p["name"] for p in asked if "skip_reason" in p}
        unknown = skipped if unknown is None else unknown & skipped
        if not skipped:
            break
    installed = {d.metadata["Name"] for d in importlib.metadata.distributions()} - {OURS}
    missing = sorted(installed if unknown is None else unknown)
    return sorted(set(holes)), missing, len(installed) - len(missing)


def sbom() -> dict[str, Any]:
    """What is installed, as a CycloneDX 1.5 document."""
    found = {
        (d.metadata["Name"].lower(), d.version, str(d.metadata.json.get("license") or ""))
        for d in importlib.metadata.distributions()
    }
    parts = [
        {"type": "library", "name": name, "version": version, "purl": f"pkg:pypi/{name}@{version}", "bom-ref": f"{name}@{version}"}
        | ({"licenses": [{"license": {"name": text[:100]}}]} if text and "\n" not in text else {})
        for name, version, text in sorted(found)
        if name != OURS
    ]  # fmt: skip
    us = {"type": "library", "name": OURS, "version": importlib.metadata.version(OURS)}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid4()}",
        "version": 1,
        "metadata": {"component": us},
        "components": parts,
    }


def main() -> int:
    """Runs the checks and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--strict", action="store_true", help="fail when a package could not be looked up")
    parser.add_argument("--sbom", metavar="FILE", type=Path, help="write what is installed as CycloneDX")
    given = parser.parse_args()
    if given.sbom is not None:
        given.sbom.write_text(json.dumps(sbom(), indent=1) + "\n", encoding="utf-8")
        print(f"what is installed is listed in {given.sbom}")
    clean = bandit()
    print(f"bandit: {'clean' if clean else 'findings, see above'}")
    holes, unknown, asked = packages()
    for hole in holes:
        print(f"HOLE {hole}")
    print(f"pip-audit: {asked} packages looked up, {len(holes)} known holes")
    if unknown:
        print(
            f"WARNING: {len(unknown)} packages could NOT be looked up (no network, or an index without advisories); "
            f"this is no pass: {', '.join(unknown[:8])}{', ...' if len(unknown) > 8 else ''}",
            file=sys.stderr,
        )
    return int(not clean or bool(holes) or (given.strict and bool(unknown)))


if __name__ == "__main__":
    raise SystemExit(main())
