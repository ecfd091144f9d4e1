"""The files API of the agent: reading and changing trees that belong to guests, none of whose names can be trusted."""
