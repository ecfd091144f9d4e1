"""Egress by name: the resolver of sandboxes, what a name's answer opens, and the log of what was asked."""
