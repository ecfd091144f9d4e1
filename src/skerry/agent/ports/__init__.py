"""Connections into sandboxes: who wants one is held until the sandbox is awake and somebody listens there."""
