"""A raw stream to a port in a sandbox: what whoever wants one sends first."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from skerry.model.fields import Frozen

Port = Annotated[int, Field(ge=1, le=65_535)]

READY, END = "ready", "end"
"""Text messages of a connection through a WebSocket: it is made; this side has said all it had to say."""


class StreamRequest(Frozen):
    sandbox_id: Annotated[str, Field(max_length=32)]
    port: Port
    by: Annotated[str, Field(max_length=64)]
    """What it is for, as `inspect` shows it: `http 8080`, `tcp 5432`."""
    wake: bool = True
    """Wake it if it sleeps; else the answer is {"asleep": true}, for who must first ask whether it may be woken."""
    counts: bool = True
    """Whether this is activity. What only watches a sandbox must not keep it awake."""
