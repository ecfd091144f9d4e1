"""An engine without weights that behaves like a real one: for tests, capacity planning and benchmarks."""
