"""Runs the command line in processes of its own, in a folder of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

LIMIT = 60.0


class Shell:
    """A folder with a store, and the command in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[subprocess.Popen[str]] = []

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def start(self, *args: object) -> subprocess.Popen[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TUNEWRIGHT")}
        process = subprocess.Popen(
            [sys.executable, "-m", "tunewright", *map(str, args)],
            cwd=self.folder,
            env={**environment, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def __call__(self, *args: object, code: int | None = 0) -> tuple[str, str]:
        process = self.start(*args)
        out, err = process.communicate(timeout=LIMIT)
        if code is not None:
            assert process.returncode == code, f"{args} gave {process.returncode}\n{out}\n{err}"
        assert "Traceback" not in err or code == 4, err
        return out, err

    def json(self, *args: object, code: int = 0) -> Any:
        out, _ = self(args[0], "--json", *args[1:], code=code)
        assert out.count("\n") == 1, out
        return json.loads(out)

    def wait(self, test: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + LIMIT
        while not test():
            assert time.monotonic() < end, f"waited in vain for {what}"
            time.sleep(0.05)

    def lines(self, name: str) -> list[str]:
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    def close(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.kill()
                process.communicate()


SCRIPT = """
import argparse, json, os, sys, time
p = argparse.ArgumentParser()
p.add_argument("--lr", type=float)
p.add_argument("--opt", default="adam")
p.add_argument("--epochs", type=int, default=3)
p.add_argument("--sleep", type=float, default=0.0)
a = p.parse_args()
with open("began.txt", "a") as f:
    f.write(os.environ["TUNEWRIGHT_TRIAL"] + "\\n")
for epoch in range(1, a.epochs + 1):
    time.sleep(a.sleep)
    print(json.dumps({"epoch": epoch, "loss": abs(a.lr - 0.01) + 1.0 / epoch}))
    with open("steps.txt", "a") as f:
        f.write(f"{os.environ['TUNEWRIGHT_TRIAL']} {epoch} {os.getpid()}\\n")
"""
