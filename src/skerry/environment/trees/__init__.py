"""Trees of files on this machine and in sandboxes: looked through, compared and packed."""
