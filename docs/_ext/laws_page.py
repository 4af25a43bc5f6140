"""Writes the page of published scaling laws from the objects that answer questions about them."""

from __future__ import annotations

import importlib
from typing import Any

HEADER = """# Published scaling laws

What `tunewright scale predict` and `tunewright.scaling.laws` know, from the objects themselves; this page is generated. A law
answers inside the box in which it was fitted, answers with a warning a little outside, and refuses further out.
[Which scaling law, and when not](../guides/which-law.md) says how to choose.

"""
_SOURCES = {
    "paper": "its constants are printed in the paper",
    "second-hand": "its constants could only be read in other people's use of the paper",
    "exponent only": "it carries a value that you measured to another size",
    "fitted here": "its constants were fitted here",
}


def _number(value: float) -> str:
    return f"{value:.4g}"


def _law(law: Any) -> str:
    told = law.describe()
    spread = told["spread"]
    constants = ", ".join(
        f"{k} = {_number(v)}" + (f" ± {_number(spread[k])}" if k in spread else "")
        for k, v in told["constants"].items()
    )
    box = ", ".join(f"{k} {_number(low)} to {_number(high)}" for k, (low, high) in told["box"].items())
    lines = [
        f"## {told['name']}\n",
        f"`{told['formula']}`\n",
        f"- **Gives**: {told['output']}, in {told['unit']}",
        f"- **Takes**: {', '.join(f'{k} ({unit})' for k, unit in told['inputs'].items())}",
        f"- **Fitted in**: {box}; it refuses beyond {told['margin']:g} times that",
        f"- **Constants**: {constants}; {_SOURCES[told['confidence']]}",
        f"- **Source**: {told['paper']}",
    ]
    lines += [f"- **Holds for**: {'; '.join(told['conditions'])}"] if told["conditions"] else []
    lines += [f"- **Not together with** {other}: {why}" for other, why in told["contradicts"].items()]
    return "\n".join(lines) + (f"\n\n{told['note']}\n" if told["note"] else "\n")


def render() -> str:
    """The page as MyST Markdown."""
    laws = importlib.import_module("tunewright.scaling.laws")
    return HEADER + "\n".join(_law(laws.get(name)) for name in laws.names())
