"""Pictures of every page of the dashboard, for the documentation: ``python -m benchmarks.screenshots``.

Makes the sample studies, opens each page in a headless Chromium at 1440 and at 390 pixels, light and dark, and writes
palette images. The documentation gets every page wide and light, and some narrow or dark; ``--all FOLDER`` writes the
other variants too, to be looked at.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks import browser as driving

OUT = driving.ROOT / "docs" / "_static" / "screens"
WIDTHS = {1440: 900, 390: 844}
SCHEMES = ("light", "dark")
DARK = ("overview", "explore", "studies")
NARROW = ("overview", "explore", "trials", "studies")
COLOURS = 128
TALLEST = 2600


def shown_in_docs(name: str, width: int, scheme: str) -> bool:
    """Whether the documentation shows a page in this variant."""
    if width == 390:
        return scheme == "light" and name in NARROW
    return scheme == "light" or name in DARK


def packed(png: bytes) -> bytes:
    """A picture with few colours, as PNG."""
    from PIL import Image

    image = Image.open(io.BytesIO(png)).convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def shoot(folder: Path, everything: Path | None, only: Sequence[str]) -> int:
    """Takes the pictures.

    Args:
        folder: Where those for the documentation go.
        everything: Where the other variants go; None leaves them out.
        only: Names of pages; all when empty.

    Returns:
        Bytes written for the documentation.
    """
    from tools.sample_studies import make

    from tunewright.store.urls import open_store

    total = 0
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "samples.db"
        store = open_store(str(path))
        make(store)
        store.close()
        with driving.chromium() as browser, driving.dashboard(path) as served:
            for width, height in WIDTHS.items():
                for scheme in SCHEMES:
                    context = browser.new_context(
                        viewport={"width": width, "height": height}, reduced_motion="reduce"
                    )
                    page = context.new_page()
                    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
                    page.goto(served.url())
                    for name, address in driving.pages().items():
                        docs = shown_in_docs(name, width, scheme)
                        if (only and name not in only) or not (docs or everything):
                            continue
                        page.goto(served.url(address, sign_in=False), wait_until="commit")
                        driving.settled(page)
                        page.wait_for_timeout(500)
                        full = min(int(page.evaluate("() => document.documentElement.scrollHeight")), TALLEST)
                        page.set_viewport_size({"width": width, "height": max(height, full)})
                        page.wait_for_timeout(700)
                        data = packed(page.screenshot())
                        page.set_viewport_size({"width": width, "height": height})
                        target = folder if docs else everything
                        assert target is not None
                        target.mkdir(parents=True, exist_ok=True)
                        (target / f"{name}-{width}-{scheme}.png").write_bytes(data)
                        total += len(data) if docs else 0
                        print(f"{name}-{width}-{scheme}: {len(data) / 1000:.0f} kB")
                    context.close()
    return total


def main() -> None:
    """Takes the pictures that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument(
        "--all", type=Path, metavar="FOLDER", help="write the variants that are not in the documentation here"
    )
    parser.add_argument("--only", nargs="*", default=[], metavar="PAGE")
    given = parser.parse_args()
    if reason := driving.lacking():
        raise SystemExit(reason)
    print(f"{shoot(given.out, given.all, given.only) / 1e6:.2f} MB for the documentation")


if __name__ == "__main__":
    main()
