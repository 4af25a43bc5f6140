"""How much the shim says: the names of ``optuna.logging`` over the standard library's logger ``tunewright.optuna``."""

from __future__ import annotations

import logging
from logging import CRITICAL, DEBUG, ERROR, FATAL, INFO, WARN, WARNING

__all__ = [
    "CRITICAL",
    "DEBUG",
    "ERROR",
    "FATAL",
    "INFO",
    "WARN",
    "WARNING",
    "disable_default_handler",
    "disable_propagation",
    "enable_default_handler",
    "enable_propagation",
    "get_logger",
    "get_verbosity",
    "set_verbosity",
]

_logger = logging.getLogger("tunewright.optuna")
_handler = logging.StreamHandler()
_handler.setFormatter(logging.Formatter("[%(levelname).1s %(asctime)s] %(message)s"))
_logger.addHandler(_handler)
_logger.setLevel(INFO)
_logger.propagate = False


def get_logger(name: str) -> logging.Logger:
    """A logger of that name."""
    return logging.getLogger(name)


def get_verbosity() -> int:
    """The level from which on the shim speaks."""
    return _logger.getEffectiveLevel()


def set_verbosity(verbosity: int) -> None:
    """Sets the level, such as ``WARNING`` for no line per trial."""
    _logger.setLevel(verbosity)


def disable_default_handler() -> None:
    """No longer writes to the standard error stream."""
    _logger.removeHandler(_handler)


def enable_default_handler() -> None:
    """Writes to the standard error stream."""
    _logger.addHandler(_handler)


def disable_propagation() -> None:
    """Keeps what is said from the root logger; the default."""
    _logger.propagate = False


def enable_propagation() -> None:
    """Passes what is said on to the root logger."""
    _logger.propagate = True
