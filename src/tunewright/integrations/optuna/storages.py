"""The names of ``optuna.storages`` that have a counterpart: memory, and a SQLite file."""

from __future__ import annotations

from typing import Any

from tunewright.errors import ConfigError
from tunewright.store.base import Store
from tunewright.store.urls import open_store

__all__ = ["InMemoryStorage", "RDBStorage"]


def InMemoryStorage() -> Store:  # noqa: N802 - Optuna's name
    """A store that ends with the process."""
    return open_store("memory")


def RDBStorage(url: str, **settings: Any) -> Store:  # noqa: N802
    """A store in a SQLite file, from an address such as ``sqlite:///studies.db``.

    Raises:
        ConfigError: If the address is not one of SQLite, or a setting has no counterpart.
    """
    unknown = {k for k, v in settings.items() if v is not None} - {"skip_compatibility_check"}
    if unknown - {"heartbeat_interval", "grace_period"}:
        raise ConfigError(
            f"A store takes its settings in the address; got {', '.join(sorted(unknown))}. "
            f"Leave them out: leases are always on, and lost trials are always retried."
        )
    return open_store(url)
