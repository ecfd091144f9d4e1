"""Prefill and decode apart, by the flow of vLLM's NIXL connector: who computed a prompt is asked for its cache.

The bytes are not sent, only their time is spent. What is real is the order: who decodes asks the other whether it still
holds the cache, computes the prompt itself where it does not, and says when it has it, so that it is let go.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

PATH = "/simulator/held/"
ASK_S = 2.0


def offer(engine_id: str, request_id: str, host: str, port: int, blocks: int) -> dict[str, Any]:
    """kv_transfer_params of the answer of a prefill."""
    return {
        "do_remote_prefill": True,
        "do_remote_decode": False,
        "remote_engine_id": engine_id,
        "remote_request_id": request_id,
        "remote_block_ids": list(range(blocks)),
        "remote_host": host,
        "remote_port": port,
        "tp_size": 1,
    }


async def ask(params: dict[str, Any], method: str) -> bool:
    """GET: does it hold the cache? DELETE: it is fetched."""
    host, port = str(params.get("remote_host")), params.get("remote_port")
    id = str(params.get("remote_request_id", ""))
    if not isinstance(port, int) or not id.replace("-", "").isalnum():
        return False
    with contextlib.suppress(OSError, EOFError, TimeoutError, ValueError):
        async with asyncio.timeout(ASK_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(f"{method} {PATH}{id} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
                return (await reader.readline()).split(b" ")[1:2] == [b"200"]
            finally:
                writer.close()
    return False
