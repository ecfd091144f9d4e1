"""Reconcilers of sandboxes, one file for each verb."""
