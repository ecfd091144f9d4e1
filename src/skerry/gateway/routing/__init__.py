"""Which replica gets a request: pure, one file for each policy."""
