"""Lets Hydra find Tunewright's sweeper: ``hydra/sweeper=tunewright``."""

from hydra_plugins.tunewright_sweeper.sweeper import TunewrightSweeper

__all__ = ["TunewrightSweeper"]
