"""Decisions: pure functions from a snapshot of the cloud to a plan. No clock, no I/O, no randomness of its own."""
