"""Ask the nameserver of this host, a question at a time: by UDP, again once, by TCP where the answer does not fit."""

from __future__ import annotations

import dns.asyncquery
import dns.exception
import dns.message
import dns.rdatatype

from skerry.agent.egress import messages
from skerry.errors import Unavailable

TRY_S = 2.0
TRIES = 2
"""Together less than the 5 s after which a guest asks again."""


class Upstream:
    """Each question has a port and a number of its own, and an answer from elsewhere or to something else is passed
    over: whoever does not see the question cannot answer it."""

    def __init__(self, nameserver: str | None, *, port: int = 53) -> None:
        self._nameserver = nameserver
        self._port = port

    async def ask(self, name: str, kind: dns.rdatatype.RdataType) -> dns.message.Message:
        """Raises Unavailable."""
        if self._nameserver is None:
            raise Unavailable("this host has no nameserver that sandboxes could be sent to")
        asked = messages.question(name, kind)
        failure: Exception | None = None
        for _ in range(TRIES):
            try:
                answer, _ = await dns.asyncquery.udp_with_fallback(
                    asked, self._nameserver, TRY_S, self._port, ignore_unexpected=True, ignore_errors=True
                )
                return answer
            except (dns.exception.DNSException, OSError, EOFError) as error:
                failure = error
        raise Unavailable("the nameserver of this host does not answer", because=repr(failure))
