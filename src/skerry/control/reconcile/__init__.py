"""Reconcilers, one move to a file: each reads what is, decides, acts and writes, with no input but the database."""
