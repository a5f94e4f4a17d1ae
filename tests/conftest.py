"""What every test may ask for, and what none may depend on."""

from __future__ import annotations

import os

from hypothesis import settings

pytest_plugins = ["tests.nats_servers"]

settings.register_profile("headrace", deadline=None)  # no test judges by the clock
settings.load_profile("headrace")

for name in [name for name in os.environ if name.startswith(("HEADRACE_", "ACTORS_"))]:
    del os.environ[name]
