"""Reconcilers of checkpoints, one file for each verb."""
