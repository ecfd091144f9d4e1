"""Weights that this machine has, and where they come from."""
