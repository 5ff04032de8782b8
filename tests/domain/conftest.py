"""Property tests judge what is said, not how long a busy machine takes to say it.

Nor how many examples a property is not about: `assume` may leave out two in three.
"""

from hypothesis import HealthCheck, settings

settings.register_profile(
    "perennial",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
settings.load_profile("perennial")
