"""Who is next, and what the others wait for."""
