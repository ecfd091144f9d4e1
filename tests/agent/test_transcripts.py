"""What is kept of a command's output: up to a limit, in order, and readable by the next agent."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from skerry.agent.transcripts import Transcript
from skerry.model.exec import STDERR, STDOUT, ExecSession

RECORD = ExecSession(
    id="ex-1", sandbox="sb-1", command=["true"], tty=False, detached=True, started_at=datetime(2026, 1, 1, tzinfo=UTC)
)


@given(st.lists(st.tuples(st.sampled_from([STDOUT, STDERR]), st.binary(max_size=50))), st.integers(0, 200))
def test_keeps_a_prefix_of_each_channel(chunks: list[tuple[int, bytes]], bytes_max: int) -> None:
    transcript = Transcript(bytes_max)
    for channel, data in chunks:
        transcript.keep(channel, data)
    for channel in (STDOUT, STDERR):
        whole = b"".join(data for which, data in chunks if which == channel)
        assert transcript.joined(channel) == whole[:bytes_max]
    assert transcript.truncated == any(
        len(b"".join(data for which, data in chunks if which == channel)) > bytes_max for channel in (STDOUT, STDERR)
    )


def test_is_read_back_without_a_half_written_frame(tmp_path: Path) -> None:
    transcript = Transcript(100)
    transcript.save_to(tmp_path / "ex-1", RECORD, {"pid": "1"})
    transcript.keep(STDOUT, b"one")
    transcript.keep(STDERR, b"two")
    with (tmp_path / "ex-1" / "output").open("ab") as file:
        file.write(b"\x01\0\0\0\0\0\0\x09half")
    loaded, record, token = Transcript.load(tmp_path / "ex-1")
    assert loaded.all() == [(STDOUT, b"one"), (STDERR, b"two")]
    assert (record, token) == (RECORD, {"pid": "1"})
    loaded.discard()
    assert not (tmp_path / "ex-1").exists()
