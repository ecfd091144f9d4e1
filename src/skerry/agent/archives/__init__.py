"""Sandboxes in files: written from checkpoints, read back whole or not at all."""
