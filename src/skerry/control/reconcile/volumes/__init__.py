"""Reconcilers of volumes, one file for each verb."""
