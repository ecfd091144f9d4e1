"""Reconcilers of nodes, one file for each verb."""
