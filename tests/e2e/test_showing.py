"""``study.show()`` starts a dashboard beside this process, and ends it."""

from __future__ import annotations

import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path

import pytest

import tunewright as tw
from tunewright.errors import ConfigError


def test_a_study_in_memory_cannot_be_shown() -> None:
    study = tw.Study.open("here", {"x": tw.Float(0, 1)}, storage="memory")
    with pytest.raises(ConfigError, match="storage='studies.db'"):
        study.show()


@pytest.mark.slow
def test_the_dashboard_runs_until_it_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    with tw.Study.open("shown", {"x": tw.Float(0, 1)}, minimize="loss", storage=tmp_path / "s.db") as study:
        study.run(lambda x: x, trials=2, progress="none")
        shown = study.show()
        try:
            assert opened == [shown.url] and "/s/shown?token=" in shown.url
            assert shown.url in shown._repr_html_()
            browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
            with browser.open(shown.url, timeout=20) as page:
                assert page.status == 200 and b"<html" in page.read()
        finally:
            shown.close()
        shown.close()
        assert study.show(browser=False).close() is None and len(opened) == 1
