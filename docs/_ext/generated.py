"""Sphinx extension: writes the generated pages before the sources are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import api_page
import cli_page
import errors_page
import events_page
import gallery_page
import http_page
import laws_page
import methods_page
import network_page

PAGES = {
    "concepts/errors.md": errors_page.render,
    "gallery/charts.md": gallery_page.charts,
    "gallery/programs.md": gallery_page.examples,
    "methods/all.md": methods_page.render,
    "methods/inside.md": methods_page.inside,
    "methods/removing.md": methods_page.removing,
    "methods/predicting.md": methods_page.predicting,
    "methods/laws.md": laws_page.render,
    "methods/curve-network.md": network_page.render,
    "reference/api.md": api_page.render,
    "reference/hypergrad.md": api_page.inside,
    "reference/optim.md": api_page.removing,
    "reference/scaling.md": api_page.predicting,
    "reference/federated.md": api_page.federated,
    "reference/cli.md": cli_page.render,
    "reference/events.md": events_page.render,
    "reference/http.md": http_page.render,
}


def write(app: Any) -> None:
    """Writes each page whose text changed, so that an unchanged one is not rebuilt."""
    texts = (
        {name: render() for name, render in PAGES.items()}
        | methods_page.pages()
        | methods_page.elsewhere_pages()
    )
    for name, text in texts.items():
        path = Path(app.srcdir) / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def setup(app: Any) -> dict[str, bool]:
    """Called by Sphinx."""
    app.connect("builder-inited", write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
