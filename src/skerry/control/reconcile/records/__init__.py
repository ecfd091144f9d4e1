"""Reconcilers of records, one file for each verb."""
