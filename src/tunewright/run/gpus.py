"""Which GPUs this machine has, as ``CUDA_VISIBLE_DEVICES`` names them; no driver is loaded to find out."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tunewright.errors import ConfigError

_PATIENCE = 20.0


def present() -> list[str]:
    """The GPUs that this process may use: those that ``CUDA_VISIBLE_DEVICES`` names where it is set, else all.

    Asks ``nvidia-smi``, or ``rocm-smi``; without either counts ``/dev/nvidia0`` and so on.
    """
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    if given is not None:
        return [d.strip() for d in given.split(",") if d.strip() and d.strip() != "-1"]
    lines = _lines("nvidia-smi", "--query-gpu=index", "--format=csv,noheader")
    if not lines:
        text = _lines("rocm-smi", "--showid", "--csv")
        lines = [w.partition(",")[0].removeprefix("card") for w in text if w.startswith("card")]
    found = [word for word in lines if word.isdigit()]
    return found or [
        p.name.removeprefix("nvidia")
        for p in sorted(Path("/dev").glob("nvidia[0-9]*"))
        if p.name.removeprefix("nvidia").isdigit()
    ]


def _lines(program: str, *arguments: str) -> list[str]:
    path = shutil.which(program)
    if path is None:
        return []
    try:
        done = subprocess.run(  # noqa: S603 - the driver's own tool, found by its name
            [path, *arguments], capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return [line.strip() for line in done.stdout.splitlines()] if done.returncode == 0 else []


def chosen(words: str | int) -> list[str]:
    """The GPUs that a text means: ``all``, ``none``, a number of them, or a list such as ``0,2``.

    Args:
        words: What was asked for.

    Raises:
        ConfigError: If there are not so many, or it means nothing.

    Example:
        >>> chosen("0,2")
        ['0', '2']
    """
    text = str(words).strip()
    if text == "none":
        return []
    if "," in text:
        return [d.strip() for d in text.split(",") if d.strip()]
    if text != "all" and not (text.isdigit() and int(text) > 0):
        raise ConfigError(
            f"gpus must be all, how many, or a list such as 0,2; got {text!r}. For the first one alone write 1, or "
            f"--devices 0."
        )
    have = present()
    want = len(have) if text == "all" else int(text)
    if not have or want > len(have):
        raise ConfigError(
            f"gpus={text} needs {'a GPU' if text == 'all' else f'{want} of them'}; found {len(have) or 'none'} here. "
            f"Pass --gpus none to train on the processor, or correct it."
        )
    return have[:want]
