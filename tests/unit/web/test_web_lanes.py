"""Work beside the event loop: in order, bounded, and over when the server is."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tunewright.web import lanes
from tunewright.web.lanes import Lane, Pools, aside
from tunewright.web.metrics import Metrics, descriptors, resident
from tunewright.web.refusals import Refused


def test_a_lane_works_one_piece_at_a_time_and_in_order() -> None:
    done: list[int] = []
    inside = threading.Lock()

    def piece(number: int) -> int:
        assert inside.acquire(blocking=False)
        done.append(number)
        inside.release()
        return number

    async def story() -> list[int]:
        lane = Lane(pool)
        return await asyncio.gather(*(lane.run(lambda n=n: piece(n)) for n in range(50)))  # type: ignore[misc]

    with ThreadPoolExecutor(4) as pool:
        assert asyncio.run(story()) == done == list(range(50))


def test_an_error_reaches_whoever_waits_and_nobody_else() -> None:
    async def story() -> list[object]:
        lane = Lane(pool)
        works = [lambda: 1, lambda: 1 // 0, lambda: 3]
        return await asyncio.gather(*(lane.run(w) for w in works), return_exceptions=True)

    with ThreadPoolExecutor(4) as pool:
        first, second, third = asyncio.run(story())
    assert (first, type(second), third) == (1, ZeroDivisionError, 3)


def test_a_lane_takes_only_so_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "_PATIENT", 3)
    gate = threading.Event()

    async def story() -> list[object]:
        lane = Lane(pool)
        waiting = [asyncio.ensure_future(lane.run(lambda: gate.wait(10))) for _ in range(6)]
        await asyncio.sleep(0.05)
        gate.set()
        return await asyncio.gather(*waiting, return_exceptions=True)

    with ThreadPoolExecutor(1) as pool:
        got = asyncio.run(story())
    refused = [g for g in got if isinstance(g, Refused)]
    assert got.count(True) + len(refused) == 6
    assert refused and all(r.status == 503 for r in refused)


def test_what_nobody_waits_for_any_more_is_not_begun() -> None:
    gate, begun = threading.Event(), threading.Event()

    async def story() -> None:
        lane = Lane(pool)
        first = asyncio.ensure_future(lane.run(lambda: gate.wait(10)))
        second = asyncio.ensure_future(lane.run(begun.set))
        await asyncio.sleep(0.02)
        second.cancel()
        gate.set()
        assert await first
        assert await lane.run(lambda: 5) == 5

    with ThreadPoolExecutor(1) as pool:
        asyncio.run(story())
    assert not begun.is_set()


def test_a_deadline_is_an_answer() -> None:
    gate = threading.Event()

    async def story() -> None:
        with pytest.raises(Refused) as caught:
            await aside(pool, lambda: gate.wait(10), deadline=0.02)
        assert caught.value.status == 503
        gate.set()

    with ThreadPoolExecutor(1) as pool:
        asyncio.run(story())


def test_the_end_waits_for_work_only_so_long() -> None:
    gate = threading.Event()
    pools = Pools()
    pools.thinking.submit(gate.wait, 10)
    pools.close()
    assert not pools.ended(within=0.05)
    gate.set()
    assert pools.ended(within=5.0)


def test_counters_read_as_prometheus_wants_them() -> None:
    metrics = Metrics()
    for seconds in (0.0001, 0.003, 0.003, 99.0):
        metrics.count("GET", "/r", 200, seconds)
    metrics.count("GET", "/r", 404, 0.0005)
    for number in range(1000):
        metrics.count(f"MADEUP{number}", "other", 405, 0.001)
    text = metrics.text([("g", "gauge", "What.", [({"study": 'a"\\\n'}, 1.5)])])
    lines = text.splitlines()
    assert 'tunewright_requests_total{method="other",route="other",status="405"} 1000' in lines
    assert len(lines) < 60
    assert 'tunewright_requests_total{method="GET",route="/r",status="200"} 4' in lines
    assert 'tunewright_request_seconds_bucket{route="/r",le="0.0005"} 2' in lines
    assert 'tunewright_request_seconds_bucket{route="/r",le="0.005"} 4' in lines
    assert 'tunewright_request_seconds_bucket{route="/r",le="+Inf"} 5' in lines
    assert 'tunewright_request_seconds_count{route="/r"} 5' in lines
    assert 'tunewright_request_seconds_sum{route="/r"} 99.006600' in lines
    assert 'g{study="a\\"\\\\\\n"} 1.5' in lines
    kinds = {line.split()[2]: line.split()[3] for line in lines if line.startswith("# TYPE")}
    assert kinds == {
        "tunewright_requests_total": "counter",
        "tunewright_request_seconds": "histogram",
        "g": "gauge",
    }
    assert resident() > 10 * 2**20
    assert descriptors() > 2
