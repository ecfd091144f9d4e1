"""One line for each request to a service, as all logs of ours are written, but some hundred of them at a time: a write
for each would cost as much as the request."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TextIO

from skerry.gateway.services.usage import Used

if TYPE_CHECKING:
    from skerry.gateway.services.call import Call
    from skerry.gateway.services.service import Service

LINES_MAX = 512


class Journal:
    def __init__(self, stream: TextIO, *, on: bool) -> None:
        self._stream = stream
        self._on = on
        self._lines: list[str] = []

    def ended(self, call: Call, service: Service, used: Used, now_s: float) -> None:
        if not self._on:
            return
        # No field can hold a blank or a secret: models and services are those that are declared, ids are checked.
        replica, access = call.replica, call.access
        trace = call.trace.id if call.trace is not None else call.head.trace
        self._lines.append(
            f"info gateway request id={call.request_id.decode()} service={service.route.name} model={call.model} "
            f"client={access.client if access is not None else '-'} replica={replica.id if replica else '-'} "
            f"status={call.status} prompt_tokens={used.prompt} completion_tokens={used.completion} "
            f"first_ms={(call.first_s - call.began_s) * 1000 if call.first_s else 0:.1f} "
            f"took_ms={(now_s - call.began_s) * 1000:.1f}{f' trace={trace}' if trace else ''}\n"
        )
        if len(self._lines) >= LINES_MAX:
            self.flush()

    def flush(self) -> None:
        """Called often. The moment is that of the writing, within half a second of the end."""
        if not self._lines:
            return
        at_s = time.time()
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at_s)) + f".{int(at_s % 1 * 1000):03d}Z "
        text = moment + moment.join(self._lines)
        self._lines.clear()
        try:
            self._stream.write(text)
            self._stream.flush()
        except (OSError, ValueError):
            pass  # a closed stderr must not stop traffic
