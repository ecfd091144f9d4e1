"""The other gateways of this machine, on the same address: asked what they count, so that it is read in one place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from pathlib import Path

OWN = "/metrics/own"
"""On each one's own socket: what it counts itself, with `?services=ID,ID` of some."""
ANSWER_S_MAX = 1.0


class Siblings:
    def __init__(self, slot: int, of: int, socket_of: Callable[[int], Path]) -> None:
        self.slot = slot
        """Which of them this one is."""
        self.of = of
        self._socket_of = socket_of

    def share(self, limit: int) -> int:
        """Of a limit that is for all of them together."""
        return max(1, limit // self.of)

    async def gathered(self, own: Callable[[], str], services: Iterable[str] | None) -> str:
        """What all of them count, each row with the number of its own; who does not answer is left out."""
        if self.of == 1:
            return own()
        asked = OWN if services is None else f"{OWN}?services={','.join(services)}"
        others = [slot for slot in range(self.of) if slot != self.slot]
        told = await asyncio.gather(*(_ask(self._socket_of(slot), asked) for slot in others))
        texts = {self.slot: own()} | {slot: text for slot, text in zip(others, told, strict=True) if text}
        return merged(dict(sorted(texts.items())))


async def _ask(path: Path, asked: str) -> str:
    try:
        async with asyncio.timeout(ANSWER_S_MAX):
            reader, writer = await asyncio.open_unix_connection(str(path))
            try:
                writer.write(f"GET {asked} HTTP/1.1\r\nHost: local\r\nConnection: close\r\n\r\n".encode())
                answer = await reader.read(-1)
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return ""  # it is being started again
    return answer.partition(b"\r\n\r\n")[2].decode()


def merged(texts: dict[int, str]) -> str:
    """Expositions of the same metrics as one: summed up they would go back each time that one of them begins anew."""
    families: dict[str, list[str]] = {}
    for slot, text in texts.items():
        family: list[str] = []
        for line in text.splitlines():
            if line.startswith("# HELP "):
                family = families.setdefault(line.split(" ", 3)[2], [])
            if line.startswith("#"):
                if line not in family[:2]:
                    family.append(line)
            else:
                family.append(_labelled(line, slot))
    return "\n".join(line for family in families.values() for line in family) + "\n"


def _labelled(row: str, slot: int) -> str:
    name, _, value = row.rpartition(" ")
    if name.endswith("}"):
        return f'{name[:-1]},worker="{slot}"}} {value}'
    return f'{name}{{worker="{slot}"}} {value}'
