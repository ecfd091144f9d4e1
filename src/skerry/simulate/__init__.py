"""A trace of work replayed in simulated time through the real scheduler, to see what a policy does before users do."""
