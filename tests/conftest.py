"""What every test may ask for, and what none may depend on."""

from __future__ import annotations

import os
import signal

from hypothesis import settings

pytest_plugins = ["tests.nats_servers", "tests.disk"]

settings.register_profile("headrace", deadline=None)  # no test judges by the clock
settings.load_profile("headrace")

for name in [name for name in os.environ if name.startswith(("HEADRACE_", "ACTORS_"))]:
    del os.environ[name]

# A shell's background job ignores Ctrl-C, and so would every program that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
