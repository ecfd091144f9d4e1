"""What holds for every test, however the run was started."""

from __future__ import annotations

import signal

from hypothesis import settings

# The same examples every time: a change is judged by what it changed. `--hypothesis-profile=search` looks for new ones.
settings.register_profile("search", derandomize=False)
settings.register_profile("same", derandomize=True)
settings.load_profile("same")

# A run in the background of a script inherits SIGINT ignored, and so would every program that a test interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
