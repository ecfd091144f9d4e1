"""How many tokens an answer used, read from its last bytes without taking it apart."""

from __future__ import annotations

import re
from typing import NamedTuple

_NUMBER = re.compile(
    rb'"(prompt_tokens|completion_tokens|input_tokens|output_tokens|cached_tokens|total_tokens)"\s*:\s*([0-9]{1,12})'
)
_BETWEEN_CHUNKS = re.compile(rb"\r\n(?:[0-9a-fA-F]+\r\n)?")


class Used(NamedTuple):
    prompt: int
    completion: int
    cached: int
    exact: bool
    """Told by the engine; else counted."""


def read_usage(last: list[bytes], prompt_estimated: int, events: int) -> Used:
    """`last`: the answer's last parts. Text in an answer cannot look like its usage: quotes in it are escaped."""
    text = last[0] if len(last) == 1 else b"".join(last)
    at = text.rfind(b'"usage"')
    if at < 0 and len(last) > 1:
        text = _BETWEEN_CHUNKS.sub(b"", text)
        at = text.rfind(b'"usage"')
    while at >= 0:
        found = dict(_NUMBER.findall(text, at))
        if found:
            prompt = int(found.get(b"prompt_tokens", found.get(b"input_tokens", b"0")))
            completion = int(found.get(b"completion_tokens", found.get(b"output_tokens", b"0")))
            return Used(prompt, completion, int(found.get(b"cached_tokens", b"0")), True)
        at = text.rfind(b'"usage"', 0, at)  # `"usage": null` in the last part of a stream
    return Used(prompt_estimated, max(0, events - 1), 0, False)
