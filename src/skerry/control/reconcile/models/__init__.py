"""Reconcilers of models, one file for each verb."""
