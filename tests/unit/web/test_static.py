"""The files of the dashboard: light, complete, licensed, and made from the sources that lie beside them."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tunewright.web import ui

ROOT = Path(__file__).resolve().parents[3]
STATIC = ROOT / "src" / "tunewright" / "web" / "static"
UI = ROOT / "ui"
MOST = 350 * 1024


def test_all_files_together_are_light() -> None:
    size = sum(len(gzip.compress(p.read_bytes(), 9)) for p in STATIC.rglob("*") if p.is_file())
    assert 100_000 < size <= MOST, f"{size} bytes"


def test_every_source_has_its_module_and_every_module_its_source() -> None:
    sources = {p.relative_to(UI / "src").with_suffix("").as_posix() for p in (UI / "src").rglob("*.ts*")}
    modules = {
        p.relative_to(STATIC / "app").with_suffix("").as_posix() for p in (STATIC / "app").rglob("*.js")
    }
    assert sources == modules


def test_the_server_answers_at_the_address_of_every_page() -> None:
    text = (STATIC / "app" / "pages.js").read_text(encoding="utf-8")
    pages = set(re.findall(r"^    (\w+): \{ words:", text, re.MULTILINE))
    assert "transfer" in pages
    assert pages - {"overview"} == ui.PAGES


def test_every_import_is_there() -> None:
    page = (STATIC / "index.html").read_text(encoding="utf-8")
    found = re.search(r'<script type="importmap">(.*?)</script>', page, re.DOTALL)
    assert found
    bare = json.loads(found[1])["imports"]
    for address in bare.values():
        assert (STATIC / address.removeprefix("/static/")).is_file(), address
    for module in (STATIC / "app").rglob("*.js"):
        text = module.read_text(encoding="utf-8")
        for name in re.findall(r'(?:from|import)\s*\(?\s*"([^"]+)"', text):
            if name.startswith("."):
                assert (module.parent / name).resolve().is_file(), (module.name, name)
            else:
                assert name in bare, (module.name, name)


def test_nothing_is_loaded_from_elsewhere_or_run_from_text() -> None:
    for path in [*(STATIC / "app").rglob("*.js"), STATIC / "app.css", STATIC / "index.html"]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"(?:https?:)?//(?!www\.w3\.org)[a-z0-9.-]+\.[a-z]{2,}/", text), path.name
        assert not re.search(r"\beval\(|new Function|innerHTML|dangerouslySet|\bon\w+=\"", text), path.name


def test_licences_of_vendored_libraries_are_listed() -> None:
    text = (STATIC / "vendor" / "LICENSES.txt").read_text(encoding="utf-8")
    wanted = json.loads((UI / "package.json").read_text(encoding="utf-8"))["dependencies"]
    for name, version in wanted.items():
        assert f"{name} {version} (" in text, name
    assert "zrender" in text
    assert "Apache License" in text


def test_versions_are_pinned_and_name_no_registry() -> None:
    lock = (UI / "package-lock.json").read_text(encoding="utf-8")
    assert '"resolved"' not in lock
    package = json.loads((UI / "package.json").read_text(encoding="utf-8"))
    for versions in (package["dependencies"], package["devDependencies"]):
        assert all(re.fullmatch(r"[\d.]+", v) for v in versions.values()), versions


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not installed")
def test_the_modules_are_those_that_the_sources_give(tmp_path: Path) -> None:
    for name in ("src", "test"):
        shutil.copytree(UI / name, tmp_path / "ui" / name)
    for name in ("package.json", "package-lock.json", "tsconfig.json"):
        shutil.copy(UI / name, tmp_path / "ui" / name)
    if (UI / "node_modules").is_dir():
        (tmp_path / "ui" / "node_modules").symlink_to(UI / "node_modules")
    else:
        run(["npm", "ci", "--no-audit", "--no-fund"], tmp_path / "ui")
    run(["npx", "tsc", "-p", "."], tmp_path / "ui")
    made = tmp_path / "src" / "tunewright" / "web" / "static" / "app"
    for module in made.rglob("*.js"):
        kept = STATIC / "app" / module.relative_to(made)
        assert kept.read_bytes() == module.read_bytes(), f"compile ui again: {kept.name} is old"
    run(["npm", "test"], tmp_path / "ui")


def run(line: list[str], folder: Path) -> None:
    done = subprocess.run(
        line, cwd=folder, capture_output=True, text=True, timeout=300, env={**os.environ, "CI": "true"}
    )
    assert done.returncode == 0, (line, done.stdout[-3000:], done.stderr[-3000:])
