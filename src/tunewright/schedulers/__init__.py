"""How much budget, for whom: each wraps a sampler."""
