"""Private networks on this machine: who is in which, by what address and name."""
