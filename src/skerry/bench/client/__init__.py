"""Sends requests and takes down when what came back: an event-loop protocol, read after an answer is complete."""
