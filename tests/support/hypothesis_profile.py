"""The same examples on every machine, and not more of them than CI has time for."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "gems",
    derandomize=True,
    database=None,
    max_examples=60,
    # How long an example takes depends on what else the machine does.
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("long", settings.get_profile("gems"), derandomize=False, max_examples=20_000)
settings.load_profile("gems")
