"""What the scheduler is told of the database, and what it works with between two passes."""
