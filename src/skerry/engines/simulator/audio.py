"""Sound in and out, for /v1/audio: how long a recording is and so how long it takes to hear it, and a tone as long as a
text takes to say."""

from __future__ import annotations

import io
import math
import struct
import wave
from dataclasses import dataclass
from email.parser import BytesParser
from email.policy import HTTP
from typing import Any

from skerry.engines.http1 import Refused, Request

HEARD_TOKENS_PER_S = 50
"""As Whisper has it: a second of sound is fifty tokens of a prompt."""
SAID_WORDS_PER_S = 2.5
PIECE_S = 0.1
"""Of speech, in one token of an answer."""
UNKNOWN_BYTES_PER_S = 16_000
"""Of a recording in a form that is not read here: 128 kbit/s."""
RECORDING_S_MAX = 3600.0
RATE = 16_000
TONE_HERTZ = 220.0
TEXT_CHARACTERS_MAX = 4096


@dataclass(frozen=True, slots=True)
class Recording:
    fields: dict[str, str]
    data: bytes
    seconds: float

    def wants(self, name: str, *allowed: str) -> str:
        """The first where nothing is said. Raises Refused."""
        found = self.fields.get(name, allowed[0])
        if found not in allowed:
            raise Refused(400, f"{name}: one of {', '.join(allowed)}", param=name)
        return found


def recording(request: Request) -> Recording:
    """Of a form with a `file`. Raises Refused."""
    kind = request.headers.get("content-type", "")
    if not kind.startswith("multipart/form-data"):
        raise Refused(400, "send a form (multipart/form-data) with a file", param="file")
    message = BytesParser(policy=HTTP).parsebytes(f"Content-Type: {kind}\r\n\r\n".encode() + request.body)
    fields: dict[str, str] = {}
    data: bytes | None = None
    for part in message.iter_parts():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        if name == "file" and isinstance(content, bytes):
            data = content
        elif isinstance(name, str) and isinstance(content, bytes):
            fields[name] = content.decode("utf-8", "replace")
    if not data:
        raise Refused(400, "file: a recording is missing", param="file")
    seconds = _seconds(data)
    if seconds > RECORDING_S_MAX:
        raise Refused(400, f"file: at most {RECORDING_S_MAX:.0f} s of sound", param="file")
    return Recording(fields, data, seconds)


def _seconds(data: bytes) -> float:
    try:
        with wave.open(io.BytesIO(data)) as sound:
            return sound.getnframes() / sound.getframerate()
    except (wave.Error, EOFError, ZeroDivisionError):
        return len(data) / UNKNOWN_BYTES_PER_S


def words(seconds: float) -> int:
    """That are heard in so long."""
    return max(1, round(seconds * SAID_WORDS_PER_S))


def speech(body: dict[str, Any]) -> tuple[str, str, int]:
    """The text, the form it is wanted in, and in how many pieces it is said. Raises Refused."""
    text, form = body.get("input"), body.get("response_format", "wav")
    if not isinstance(text, str) or not text.strip() or len(text) > TEXT_CHARACTERS_MAX:
        raise Refused(400, f"input: text of at most {TEXT_CHARACTERS_MAX} characters", param="input")
    if form not in ("wav", "pcm"):
        raise Refused(400, "response_format: this engine says wav or pcm", param="response_format")
    return text, form, max(1, round(len(text.split()) / SAID_WORDS_PER_S / PIECE_S))


def head(pieces: int) -> bytes:
    """Of a WAV file of so many: one channel, 16 bits."""
    size = pieces * len(_PIECE)
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        *(b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, 1, 1, RATE, RATE * 2, 2, 16, b"data", size),
    )


def piece() -> bytes:
    return _PIECE


def _tone() -> bytes:
    frames = int(PIECE_S * RATE)
    return struct.pack(
        f"<{frames}h", *(int(6000 * math.sin(2 * math.pi * TONE_HERTZ * at / RATE)) for at in range(frames))
    )


_PIECE = _tone()
