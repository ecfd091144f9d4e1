"""How one sandbox runs on one machine: a contract, its conformance kit, and the runtimes that keep it."""
