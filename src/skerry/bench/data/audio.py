"""Sound of a length, each another: noise as WAV, and the form in which a transcription is asked for."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import numpy as np

HZ = 16_000
"""What Whisper and its like resample to."""
BOUNDARY = "skerry-bench-0f9a61c7"


def wav(seconds: float, chance: np.random.Generator) -> bytes:
    """One channel of 16 bits."""
    data = chance.integers(-3000, 3000, size=round(seconds * HZ), dtype=np.int16).tobytes()
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, HZ, HZ * 2, 2, 16)
    return (
        struct.pack("<4sI4s", b"RIFF", 36 + len(data), b"WAVE") + form + struct.pack("<4sI", b"data", len(data)) + data
    )


def multipart(sound: bytes, fields: Mapping[str, str]) -> bytes:
    """RFC 7578."""
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    about = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n'
    return (
        b"".join(parts)
        + about.encode()
        + b"Content-Type: audio/wav\r\n\r\n"
        + sound
        + f"\r\n--{BOUNDARY}--\r\n".encode()
    )
