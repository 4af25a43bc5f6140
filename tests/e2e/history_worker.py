"""A process of two threads that does random things to a study and writes down what it began and what was acknowledged.

``python history_worker.py URL RECORD SEED``. Lines: ``START trial token item``, ``TELL trial token value``,
``ACK trial token value``, ``FENCED trial token``, ``QUEUED key``, ``ERROR kind``.
"""

from __future__ import annotations

import os
import random
import sys
import threading
import time
from typing import Any

import tunewright as tw

SPACE = {"x": tw.Float(0, 1)}
LEASE = 2.0


def opened(url: str) -> tw.Study:
    policy = tw.Policy(lease=LEASE, max_attempts=1000)
    return tw.Study.open("history", SPACE, steps=2, method="random", storage=url, policy=policy)


class Worker:
    def __init__(self, study: tw.Study, fd: int, rng: random.Random, name: str) -> None:
        self.study, self.fd, self.rng, self.name = study, fd, rng, name
        self.held: list[Any] = []
        self.keys = 0

    def say(self, *words: object) -> None:
        os.write(self.fd, (" ".join(map(str, words)) + "\n").encode())

    def ask(self) -> None:
        count = self.rng.choice([1, 1, 1, 3])
        for asked in self.study.ask_many(count) if count > 1 else [self.study.ask()]:
            if asked is not None:
                self.say("START", asked.number, asked.token)
                self.held.append(asked)

    def report(self) -> None:
        asked = self.rng.choice(self.held)
        asked.report(self.rng.choice([1, 2]), loss=self.rng.random())

    def tell(self) -> None:
        """Sometimes twice, as after a lost answer; sometimes late, as after a pause."""
        asked = self.held.pop(self.rng.randrange(len(self.held)))
        value = round(self.rng.random(), 6)
        if self.rng.random() < 0.05:
            time.sleep(LEASE / 4)
        for _ in range(self.rng.choice([1, 1, 2])):
            self.say("TELL", asked.number, asked.token, value)
            try:
                asked.tell(value)
            except tw.LeaseLost:
                self.say("FENCED", asked.number, asked.token)
                return
            self.say("ACK", asked.number, asked.token, value)

    def fail(self) -> None:
        asked = self.held.pop()
        self.study.tell(asked, outcome="failed", error="by chance")

    def enqueue(self) -> None:
        """Keys are shared, so that two workers put the same item in."""
        key = f"item-{self.rng.randrange(200)}"
        self.study.enqueue({"x": 0.5}, key=key)
        self.say("QUEUED", key)

    def step(self) -> None:
        kinds = [self.ask] * 4 + [self.enqueue]
        if self.held:
            kinds += [self.report] * 3 + [self.tell] * 4 + [self.fail]
        if len(self.held) > 6:
            kinds = [self.tell]
        try:
            self.rng.choice(kinds)()
        except tw.LeaseLost:
            self.say("FENCED", -1, -1)
        except Exception as error:
            self.say("ERROR", type(error).__name__, str(error)[:200].replace("\n", " "))

    def run(self) -> None:
        while True:
            self.step()


def main(url: str, path: str, seed: str) -> None:
    fd = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
    study = opened(url)
    threads = [
        threading.Thread(target=Worker(study, fd, random.Random(f"{seed}-{i}"), f"{seed}-{i}").run)
        for i in (0, 1)
    ]
    for thread in threads:
        thread.start()


if __name__ == "__main__":
    main(*sys.argv[1:])
