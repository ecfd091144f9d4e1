"""The control plane: an API that writes what is wanted, and reconcilers that make it so."""
