"""Falling asleep and waking up: what counts as activity, who keeps a sandbox awake, one wake for all callers."""
