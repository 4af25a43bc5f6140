"""How fast the dashboard is next to optuna-dashboard, in one run on one machine: ``python -m benchmarks.dashboard``.

Both show the same study of 10,000 trials with 20 parameters in the same headless Chromium: bytes sent, time to the first
chart, time to parallel coordinates over all parameters, and the longest freeze, after a fresh start (cold) and again
(warm). Then ours with 100,000 trials, the time until a result of another process is on the page, and what axe finds wrong
with the pages. Prints the table and writes ``benchmarks/results/dashboard.json``.

optuna-dashboard is looked for in the environment ``optunadash`` of the folder that ``TUNEWRIGHT_PEERS`` names; without it
only ours is measured. ``--quick`` takes small studies, to see whether it works.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import browser as driving
from benchmarks.dashboard_studies import NAME
from benchmarks.dashboard_studies import ours as make_ours

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

OUT = driving.ROOT / "benchmarks" / "results" / "dashboard.json"
LONGEST = 180.0
QUIET = 2.0
# What is on the screen is asked for in every frame; a picture counts from the second frame that has it.
_WATCH = """
window.__seen = {}; window.__freezes = [];
new PerformanceObserver(list => { for (const e of list.getEntries()) window.__freezes.push([e.startTime, e.duration]); })
  .observe({type: 'longtask', buffered: true});
(() => {
  const small = document.createElement('canvas'); small.width = 24; small.height = 16;
  const pen = small.getContext('2d', {willReadFrequently: true});
  const painted = canvas => {
    if (!canvas.width || !canvas.height) return false;
    pen.clearRect(0, 0, 24, 16); pen.drawImage(canvas, 0, 0, 24, 16);
    return pen.getImageData(0, 0, 24, 16).data.some((x, i) => i % 4 === 3 && x > 0);
  };
  const wanted = WANTED;
  const look = () => {
    for (const [name, [selector, kind]] of Object.entries(wanted)) {
      if (window.__seen[name]) continue;
      const found = [...document.querySelectorAll(selector)];
      if (kind === 'canvas' ? found.some(painted) : found.length)
        requestAnimationFrame(() => requestAnimationFrame(() => { window.__seen[name] ??= performance.now(); }));
    }
    requestAnimationFrame(look);
  };
  look();
})();
"""
Wanted = dict[str, tuple[str, str]]
OURS: Wanted = {
    "chart": (".plot canvas", "canvas"),
    "parallel": (".parallel canvas[data-drawn]", "element"),
}
THEIRS: Wanted = {
    "chart": ("#plot-history .scatterlayer .trace", "element"),
    "parallel": ("#plot-parallel-coordinate .parcoords", "element"),
}


class Load:
    """One page load: what was sent, when things were there, how long the page was frozen."""

    def __init__(self, context: BrowserContext, url: str, wanted: Wanted, until: str) -> None:
        page = context.new_page()
        page.add_init_script(_WATCH.replace("WANTED", json.dumps(wanted)))
        client = context.new_cdp_session(page)
        client.send("Network.enable")
        self.bytes = 0
        self.requests = 0

        def loaded(event: dict[str, Any]) -> None:
            self.bytes += int(event["encodedDataLength"])
            self.requests += 1

        client.on("Network.loadingFinished", loaded)
        page.goto(url, wait_until="commit", timeout=LONGEST * 1000)
        with contextlib.suppress(Exception):
            page.wait_for_function(f"() => window.__seen[{until!r}]", timeout=LONGEST * 1000)
        page.wait_for_timeout(QUIET * 1000)
        seen: dict[str, float] = page.evaluate("() => window.__seen")
        self.seconds = {name: round(at / 1000, 3) for name, at in seen.items()}
        freezes: list[list[float]] = page.evaluate("() => window.__freezes")
        self.freeze_ms = round(max((f[1] for f in freezes), default=0.0))
        self.page: Page = page

    def told(self) -> dict[str, Any]:
        """The load as plain data, and its page closed."""
        self.page.close()
        return {"bytes": self.bytes, "requests": self.requests, "freeze_ms": self.freeze_ms, **self.seconds}


def context_of(browser: Browser) -> BrowserContext:
    """A fresh profile on a desktop screen."""
    return browser.new_context(viewport={"width": 1440, "height": 900})


def cold_and_warm(browser: Browser, address: str, paths: dict[str, str], wanted: Wanted) -> dict[str, Any]:
    """Loads each page in a fresh profile and then again.

    Args:
        browser: Where.
        address: The server, just started.
        paths: Page by what is waited for on it.
        wanted: What is looked for.
    """
    out: dict[str, Any] = {}
    for what, path in paths.items():
        context = context_of(browser)
        for when in ("cold", "warm"):
            out[f"{what} {when}"] = Load(context, f"{address}{path}", wanted, what).told()
        context.close()
    return out


# ------------------------------------------------------------------ theirs


def peer() -> Path | None:
    """Folder of optuna-dashboard's programs, or None."""
    folder = Path(os.environ.get("TUNEWRIGHT_PEERS", "peers")) / "optunadash" / "bin"
    return folder if (folder / "optuna-dashboard").is_file() else None


def version(programs: Path) -> str:
    """The version of optuna-dashboard that is there."""
    code = "from importlib import metadata; print(metadata.version('optuna-dashboard'))"
    done = subprocess.run(
        [programs / "python", "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


@contextlib.contextmanager
def optuna_dashboard(programs: Path, storage: Path) -> Iterator[str]:
    """Starts optuna-dashboard on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [str(programs / "optuna-dashboard"), f"sqlite:///{storage}", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with contextlib.suppress(OSError):
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
                connection.request("GET", "/dashboard/")
                if connection.getresponse().status < 500:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


def made_theirs(programs: Path, path: Path, trials: int) -> None:
    """Writes the study as a storage of Optuna, with its own package."""
    command = [
        str(programs / "python"),
        "-m",
        "benchmarks.dashboard_studies",
        str(path),
        "--trials",
        str(trials),
        "--optuna",
    ]
    subprocess.run(
        command, check=True, cwd=driving.ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def theirs(browser: Browser, programs: Path, scratch: Path, trials: int) -> dict[str, Any]:
    """What optuna-dashboard does."""
    storage = scratch / "theirs.db"
    made_theirs(programs, storage, trials)
    paths = {"chart": "/dashboard/studies/1", "parallel": "/dashboard/studies/1/smartSelection"}
    with optuna_dashboard(programs, storage) as address:
        out = cold_and_warm(browser, address, paths, THEIRS)
    small = scratch / "small.db"
    made_theirs(programs, small, 50)
    with optuna_dashboard(programs, small) as address:
        pages = {
            "studies": "",
            "history": "studies/1",
            "analytics": "studies/1/analytics",
            "trials": "studies/1/trials",
        }
        out["axe"] = {
            name: _rules(browser, f"{address}/dashboard/{path}", 4.0) for name, path in pages.items()
        }
    return out


def _rules(browser: Browser, url: str, rest: float) -> list[str]:
    """The rules of axe that a page breaks, some seconds after it was opened."""
    context = context_of(browser)
    page = context.new_page()
    page.goto(url)
    page.wait_for_timeout(rest * 1000)
    found = [v["rule"] for v in driving.violations(page)]
    context.close()
    return found


# ------------------------------------------------------------------ ours


def ours(browser: Browser, scratch: Path, trials: int) -> dict[str, Any]:
    """What our dashboard does."""
    storage = scratch / "ours.db"
    make_ours(storage, trials)
    paths = {"chart": driving.of(NAME), "parallel": driving.of(NAME, "explore")}
    out: dict[str, Any] = {}
    for what, path in paths.items():
        with driving.dashboard(storage) as served:
            context = context_of(browser)
            signed = context.new_page()
            signed.goto(served.url("/methods"), wait_until="commit")
            signed.close()
            for when in ("cold", "warm"):
                out[f"{what} {when}"] = Load(context, served.url(path, sign_in=False), OURS, what).told()
            context.close()
    return out


def large(browser: Browser, scratch: Path, trials: int) -> dict[str, Any]:
    """Ours with many trials: the overview, and how smoothly the table scrolls."""
    storage = scratch / "many.db"
    make_ours(storage, trials)
    with driving.dashboard(storage) as served:
        context = context_of(browser)
        page = context.new_page()
        page.goto(served.url("/methods"), wait_until="commit")
        page.close()
        out = {"overview": Load(context, served.url(driving.of(NAME), sign_in=False), OURS, "chart").told()}
        wanted: Wanted = {
            "table": ("main [role=row] [role=cell], main [role=row] [role=gridcell], main td", "element")
        }
        load = Load(context, served.url(driving.of(NAME, "trials"), sign_in=False), wanted, "table")
        out["scroll"] = _scrolled(load.page)
        out["trials"] = load.told()
        context.close()
    return out


_SCROLL = """async () => {
  const box = [...document.querySelectorAll('main *'), document.documentElement]
    .filter(e => e.scrollHeight > e.clientHeight * 3).sort((a, b) => b.scrollHeight - a.scrollHeight)[0];
  const gaps = [], texts = new Set(); let last = performance.now();
  const rows = () => document.querySelector('main table, main [role=grid], main [role=table]')?.textContent.slice(0, 400);
  for (let i = 0; i < 60; i++) {
    box.scrollTop = (i % 30) * box.scrollHeight / 30;
    await new Promise(done => requestAnimationFrame(done));
    const now = performance.now(); gaps.push(now - last); last = now; texts.add(rows());
  }
  return {gaps, different: texts.size, height: box.scrollHeight};
}"""


def _scrolled(page: Page) -> dict[str, Any]:
    """Jumps through the table frame by frame: milliseconds of a frame, and whether rows were there."""
    told: dict[str, Any] = page.evaluate(_SCROLL)
    gaps = sorted(told["gaps"])
    return {
        "median_ms": round(statistics.median(gaps), 1),
        "worst_ms": round(gaps[-1], 1),
        "different": told["different"],
    }


_REPORT = """
import sys, time
import tunewright as tw
with tw.Study.open("live", storage=sys.argv[1], exist="must") as study:
    for line in sys.stdin:
        asked = study.ask()
        study.tell(asked, asked.params["x"])
        print(time.time(), flush=True)
"""


def live(browser: Browser, scratch: Path, times: int = 8) -> dict[str, Any]:
    """Seconds from a result of another process being in the log until it is on the page."""
    import tunewright as tw

    storage = scratch / "live.db"
    with tw.Study.open(
        "live", {"x": tw.Float(0, 1)}, minimize="loss", method="random", storage=str(storage)
    ) as study:
        for _ in range(20):
            asked = study.ask()
            assert asked is not None
            asked.tell(asked.params["x"])
    command = [sys.executable, "-c", _REPORT, str(storage)]
    delays = []
    with driving.dashboard(storage) as served:
        other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert other.stdin is not None and other.stdout is not None
        context = context_of(browser)
        page = context.new_page()
        page.goto(served.url(driving.of("live")))
        driving.settled(page)
        page.wait_for_timeout(1500)
        for i in range(times):
            page.evaluate(
                "n => { window.__at = 0; const look = () => { if (document.body.innerText.includes(`${n} trials`)) "
                "window.__at = Date.now() / 1000; else requestAnimationFrame(look); }; look(); }",
                21 + i,
            )
            other.stdin.write("go\n")
            other.stdin.flush()
            told = float(other.stdout.readline())
            page.wait_for_function("() => window.__at", timeout=15_000)
            delays.append(round(float(page.evaluate("() => window.__at")) - told, 3))
            page.wait_for_timeout(700)
        other.stdin.close()
        other.wait(10)
        context.close()
    return {"seconds": delays, "median": round(statistics.median(delays), 3), "worst": max(delays)}


def axe(browser: Browser, scratch: Path) -> dict[str, list[str]]:
    """The rules of axe that each of our pages breaks, light and dark together."""
    from tools.sample_studies import make

    from tunewright.store.urls import open_store

    storage = scratch / "samples.db"
    store = open_store(str(storage))
    make(store)
    store.close()
    out: dict[str, list[str]] = {}
    with driving.dashboard(storage) as served:
        context = context_of(browser)
        page = context.new_page()
        page.goto(served.url())
        for name, path in driving.pages().items():
            found: set[str] = set()
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme)
                page.goto(served.url(path, sign_in=False), wait_until="commit")
                driving.settled(page)
                found |= {v["rule"] for v in driving.violations(page)}
            out[name] = sorted(found)
        context.close()
    return out


# ------------------------------------------------------------------ the table


def _row(label: str, their: str, our: str) -> str:
    return f"{label:<44} {their:>20} {our:>20}"


def _pair(found: dict[str, Any] | None, what: str, key: str) -> str:
    """Cold and warm of a figure."""
    if not found:
        return "-"
    values = [found[f"{what} {when}"].get(key) for when in ("cold", "warm")]
    if key == "bytes":
        return " / ".join(f"{v / 1e6:.2f}" for v in values)
    return " / ".join("-" if v is None else f"{v:.2f}" if key != "freeze_ms" else f"{v:.0f}" for v in values)


def lines(told: dict[str, Any]) -> list[str]:
    """The table as text."""
    their, our = told.get("optuna_dashboard"), told["tunewright"]
    out = [_row(f"{told['trials']:,} trials x 20 parameters, cold / warm", "optuna-dashboard", "tunewright")]
    for label, what, key in (
        ("MB sent for the first page", "chart", "bytes"),
        ("first chart, s", "chart", "chart"),
        ("longest freeze there, ms", "chart", "freeze_ms"),
        ("MB sent for parallel coordinates", "parallel", "bytes"),
        ("parallel coordinates, s", "parallel", "parallel"),
        ("longest freeze there, ms", "parallel", "freeze_ms"),
    ):
        out.append(_row(label, _pair(their, what, key), _pair(our, what, key)))
    many = told["many"]
    out.append(
        _row(f"{told['many_trials']:,} trials: first chart, s", "", f"{many['overview'].get('chart', 0):.2f}")
    )
    out.append(_row("  its table: first rows, s", "", f"{many['trials'].get('table', 0):.2f}"))
    scroll = many["scroll"]
    out.append(
        _row(
            "  a frame while it scrolls, ms, median / worst",
            "",
            f"{scroll['median_ms']} / {scroll['worst_ms']}",
        )
    )
    live_ = told["live"]
    out.append(
        _row(
            "a result of another process is shown, s",
            "polls every 10",
            f"{live_['median']} / {live_['worst']}",
        )
    )
    broken = [len(v) for v in told["axe"].values()]
    peers = [len(v) for v in their["axe"].values()] if their else []
    out.append(
        _row("rules of axe broken on a page, most", str(max(peers)) if peers else "-", str(max(broken)))
    )
    return out


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    if reason := driving.lacking():
        raise SystemExit(reason)
    trials, many = (500, 2000) if given.quick else (10_000, 100_000)
    told: dict[str, Any] = {"trials": trials, "many_trials": many, "python": platform.python_version()}
    with tempfile.TemporaryDirectory() as folder, driving.chromium() as browser:
        scratch = Path(folder)
        told["chromium"] = browser.version
        told["load_before"] = os.getloadavg()[0]
        told["tunewright"] = ours(browser, scratch, trials)
        told["many"] = large(browser, scratch, many)
        told["live"] = live(browser, scratch)
        told["axe"] = axe(browser, scratch)
        programs = peer()
        if programs is not None:
            told["peer"] = version(programs)
            told["optuna_dashboard"] = theirs(browser, programs, scratch, trials)
        told["load_after"] = os.getloadavg()[0]
    for line in lines(told):
        print(line)
    if not given.quick:
        given.out.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
