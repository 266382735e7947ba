"""How hard do the property tests try?  The profile is chosen by the environment variable HYPOTHESIS_PROFILE."""

import os

from hypothesis import HealthCheck, settings


# Before torch is loaded: networks so small are fastest on one thread, and two workers' threads wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# dev: moderate, and each run looks elsewhere.  ci: the same examples each time.  nightly: many.
settings.register_profile("dev", max_examples=60, deadline=None)
settings.register_profile("ci", max_examples=100, deadline=None, derandomize=True, print_blob=True)
settings.register_profile(
    "nightly", max_examples=3000, stateful_step_count=300, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "dev"))

# A pytest inside pytest, for the tests of our plugin.
pytest_plugins = ["pytester"]
