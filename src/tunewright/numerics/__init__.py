"""Numerical tools that know nothing of tuning: linear algebra, optimisers, distributions."""
