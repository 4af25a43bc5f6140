"""Counters of a server, in the text format that Prometheus reads."""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from pathlib import Path

BOUNDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_PAGE = 4096
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"})
Sample = tuple[Mapping[str, str], float]


class Metrics:
    """What happened since the server began."""

    def __init__(self) -> None:
        self.began = time.time()
        self.events = 0
        self._requests: dict[tuple[str, str, int], int] = {}
        self._latency: dict[str, list[float]] = {}

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """Counts a request that was answered."""
        # Anybody can make up methods, and each would stay here for good.
        key = (method if method in _METHODS else "other", route, status)
        self._requests[key] = self._requests.get(key, 0) + 1
        slots = self._latency.get(route)
        if slots is None:
            slots = self._latency[route] = [0.0] * (len(BOUNDS) + 2)
        slots[bisect_left(BOUNDS, seconds)] += 1
        slots[-1] += seconds

    def text(self, gauges: Iterable[tuple[str, str, str, list[Sample]]]) -> str:
        """Everything, with gauges of the moment: name, kind, help, samples."""
        lines = [
            "# HELP tunewright_requests_total Requests answered.",
            "# TYPE tunewright_requests_total counter",
        ]
        lines += [
            f"tunewright_requests_total{labels({'method': m, 'route': r, 'status': str(s)})} {n}"
            for (m, r, s), n in sorted(self._requests.items())
        ]
        lines += [
            "# HELP tunewright_request_seconds Time from a request to its answer.",
            "# TYPE tunewright_request_seconds histogram",
        ]
        for route, slots in sorted(self._latency.items()):
            total = 0
            for bound, number in zip((*map(str, BOUNDS), "+Inf"), slots, strict=False):
                total += int(number)
                lines.append(
                    f"tunewright_request_seconds_bucket{labels({'route': route, 'le': bound})} {total}"
                )
            lines.append(f"tunewright_request_seconds_sum{labels({'route': route})} {slots[-1]:.6f}")
            lines.append(f"tunewright_request_seconds_count{labels({'route': route})} {total}")
        for name, kind, what, samples in gauges:
            lines += [f"# HELP {name} {what}", f"# TYPE {name} {kind}"]
            lines += [f"{name}{labels(given)} {value:.17g}" for given, value in samples]
        return "\n".join(lines) + "\n"


def labels(given: Mapping[str, str]) -> str:
    """Labels as Prometheus reads them."""
    if not given:
        return ""
    pairs = ",".join(f'{name}="{_escaped(value)}"' for name, value in given.items())
    return f"{{{pairs}}}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def resident() -> int:
    """Bytes of memory that this process takes up; 0 where the system does not say."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _page()
    except (OSError, ValueError, IndexError):
        return 0


def descriptors() -> int:
    """Files and connections that this process has open; 0 where the system does not say."""
    try:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - only their number is wanted
    except OSError:
        return 0


def _page() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError, AttributeError):
        return _PAGE
