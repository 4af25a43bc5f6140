"""Adapters that let outside harnesses drive Tunewright."""
