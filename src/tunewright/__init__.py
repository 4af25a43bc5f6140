"""Tunewright chooses hyperparameters."""
