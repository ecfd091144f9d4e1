"""Reconcilers of images, one file for each verb."""
