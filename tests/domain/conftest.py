"""Property tests judge what is said, not how long a busy machine takes to say it."""

from hypothesis import HealthCheck, settings

settings.register_profile("perennial", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("perennial")
