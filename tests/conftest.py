"""Settings and shared servers for every test."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from benchmarks.postgres import Cluster

# Time limits per example fail on a busy machine and say nothing about the code.
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A PostgreSQL of our own, started by the first test that needs it; shared, so leave it running and thawed."""
    from benchmarks.postgres import Cluster, available

    if not available():
        reason = "PostgreSQL is not installed; get the package 'postgresql' to run this test"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    with Cluster(fsync=False, settings={"shared_buffers": "'32MB'", "autovacuum": "off"}) as cluster:
        yield cluster


@pytest.fixture
def postgres_url(postgres: Cluster) -> str:
    """Address of an empty place of its own in that server: a schema, which is cheaper than a database."""
    return f"{postgres.url}?schema=test_{next(_numbers)}"
