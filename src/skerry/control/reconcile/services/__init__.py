"""Reconcilers of services."""
