"""How a model server is started, looked at and measured: one file for each engine, and what they all promise."""
