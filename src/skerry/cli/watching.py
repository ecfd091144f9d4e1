"""What a sandbox says and uses: its log as it comes, `skerry stats`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from skerry.cli.invocation import Invocation
from skerry.cli.options import command, sandboxes_argument
from skerry.cli.output import Columns, human_size
from skerry.client.call import Call
from skerry.client.calls import sandboxes as calls


def print_log(invocation: Invocation, call: Call[Any]) -> None:
    """Its bytes as they come; as JSON, one object once all have."""
    with invocation.transport.stream(call) as stream:
        if invocation.output.json:
            invocation.output.emit({"text": b"".join(stream).decode(errors="replace")})
            return
        for chunk in stream:
            sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()


@command("stats")
@sandboxes_argument
def stats(invocation: Invocation, sandboxes: tuple[str, ...]) -> None:
    """What sandboxes use at this moment."""
    items = [{"sandbox": name, **invocation.ask(calls.stats(name))} for name in sandboxes]

    def of(used: str, limit: str) -> Callable[[Any], object]:
        return lambda item: f"{human_size(item[used])} / {human_size(item[limit])}"

    columns: Columns = {
        "SANDBOX": lambda item: item["sandbox"],
        "CPU TIME": lambda item: f"{item['cpu_s']:.1f}s",
        "MEMORY": of("memory_bytes", "memory_limit_bytes"),
        "PEAK": lambda item: human_size(item["memory_peak_bytes"]),
        "OOM KILLS": lambda item: item["oom_kills"],
        "PIDS": lambda item: f"{item['pids']} / {item['pids_limit']}",
        "DISK": of("disk_bytes", "disk_limit_bytes"),
        "RECEIVED": lambda item: human_size(item["network_received_bytes"]),
        "SENT": lambda item: human_size(item["network_sent_bytes"]),
        "CONNECTIONS": lambda item: item.get("network_connections", 0),
    }
    invocation.output.many(items, columns, name="sandbox")
