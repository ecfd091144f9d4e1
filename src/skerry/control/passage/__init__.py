"""What control passes to the agent and back as it comes: commands, files, logs. Only these routes bypass the store."""
