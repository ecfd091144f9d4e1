"""Reconcilers of jobs, one file for each verb."""
