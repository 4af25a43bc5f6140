"""Settings for every test."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# Time limits per example fail on a busy machine and say nothing about the code.
settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")
