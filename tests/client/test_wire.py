"""Bytes cut into frames and lines wherever the network cut them; and the numbers that stand here and in the model."""

from __future__ import annotations

import json
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.client import wire
from skerry.client.result import Collector
from skerry.errors import Failed, NotFound
from skerry.model import exec as model


def frame(channel: int, payload: bytes) -> bytes:
    return struct.pack(">BxxxI", channel, len(payload)) + payload


def test_the_numbers_are_the_models() -> None:
    for name in ("STDIN", "STDOUT", "STDERR", "EXIT", "RESIZE", "CLOSE", "STREAM_TYPE"):
        assert getattr(wire, name) == getattr(model, name)


@given(st.lists(st.tuples(st.integers(0, 2), st.binary(max_size=40))), st.integers(1, 50))
def test_frames_do_not_care_how_they_are_cut(frames: list[tuple[int, bytes]], step: int) -> None:
    stream = b"".join(frame(*item) for item in frames)
    cutter = wire.Frames()
    found = [item for start in range(0, len(stream), step) for item in cutter.feed(stream[start : start + step])]
    assert found == frames


@given(st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=9), max_size=3)), st.integers(1, 20))
def test_lines_do_not_care_how_they_are_cut(bodies: list[dict[str, str]], step: int) -> None:
    stream = "".join(json.dumps(body, ensure_ascii=False) + "\n" for body in bodies).encode()
    cutter = wire.Lines()
    found = [item for start in range(0, len(stream), step) for item in cutter.feed(stream[start : start + step])]
    assert found == bodies


def test_a_frame_without_end_is_refused() -> None:
    with pytest.raises(Failed, match="too large"):
        wire.Frames().feed(struct.pack(">BxxxI", 1, 2**32 - 1))


def test_an_error_in_place_of_an_exit_is_raised() -> None:
    error = json.dumps({"code": None, "error": {"code": "not_found", "message": "gone"}}).encode()
    with pytest.raises(NotFound, match="gone"):
        wire.Frames().feed(frame(wire.EXIT, error))
    with pytest.raises(NotFound, match="gone"):
        wire.split_message(bytes((wire.EXIT,)) + error)


@given(st.text(max_size=60), st.integers(1, 3))
def test_text_is_whole_wherever_a_character_was_cut(text: str, step: int) -> None:
    collector = Collector()
    data = text.encode(errors="replace")
    pieces = [collector.take((wire.STDOUT, data[at : at + step])) for at in range(0, len(data), step)]
    assert "".join(piece[1] for piece in pieces if piece) == data.decode()
