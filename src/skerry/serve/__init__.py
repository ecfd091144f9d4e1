"""The supervisor: starts the programs of one machine, starts again any that dies, and outlives them all."""
