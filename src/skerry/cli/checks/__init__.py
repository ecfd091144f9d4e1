"""What `skerry doctor` looks at, one idea per file, each miss with the command that mends it."""
