"""The same examples on every machine, and not more of them than CI has time for."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "gems",
    derandomize=True,
    database=None,
    max_examples=60,
    # Generous: the machines of CI are shared. What takes longer than this does not do so by chance.
    deadline=2_000,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.register_profile("long", settings.get_profile("gems"), derandomize=False, max_examples=20_000)
settings.load_profile("gems")
