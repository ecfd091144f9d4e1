"""What a command has written so far, up to a limit: in memory, and on disk for a session that must outlive us."""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

from skerry.model.exec import ExecSession

_FRAME = struct.Struct(">BxxxI")


class Transcript:
    """Chunks in order, at most `bytes_max` of each channel; what comes after is dropped and `truncated` says so."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._chunks: list[tuple[int, bytes]] = []
        self._sizes: dict[int, int] = {}
        self._folder: Path | None = None
        self._token: dict[str, str] = {}
        self.truncated = False

    def keep(self, channel: int, data: bytes) -> None:
        size = self._sizes.get(channel, 0)
        if size + len(data) > self._bytes_max:
            self.truncated = True
            data = data[: self._bytes_max - size]
        if not data:
            return
        self._sizes[channel] = size + len(data)
        self._chunks.append((channel, data))
        if self._folder is not None:
            with (self._folder / "output").open("ab") as file:
                file.write(_FRAME.pack(channel, len(data)) + data)

    def all(self) -> list[tuple[int, bytes]]:
        return list(self._chunks)

    def joined(self, channel: int) -> bytes:
        return b"".join(data for which, data in self._chunks if which == channel)

    def save_to(self, folder: Path, record: ExecSession, token: dict[str, str]) -> None:
        folder.mkdir(parents=True, mode=0o700)
        self._folder = folder
        self._token = token
        self._write(record)

    def ended(self, record: ExecSession) -> None:
        if self._folder is not None and self._folder.exists():
            self._write(record)

    def _write(self, record: ExecSession) -> None:
        assert self._folder is not None
        state = {"record": record.model_dump(mode="json"), "token": self._token, "bytes_max": self._bytes_max}
        scratch = self._folder / "session.new"
        scratch.write_text(json.dumps(state))
        scratch.replace(self._folder / "session.json")

    def discard(self) -> None:
        if self._folder is None:
            return
        for name in ("output", "session.json", "session.new"):
            (self._folder / name).unlink(missing_ok=True)
        if self._folder.exists():
            self._folder.rmdir()
        self._folder = None

    @staticmethod
    def saved(folder: Path) -> list[Path]:
        """What an agent was killed in the middle of making, before anybody was told of it, goes."""
        found = [path for path in folder.iterdir() if path.is_dir()] if folder.exists() else []
        for unfinished in (path for path in found if not (path / "session.json").exists()):
            shutil.rmtree(unfinished)
        return [path for path in found if path.exists()]

    @staticmethod
    def load(folder: Path) -> tuple[Transcript, ExecSession, dict[str, str]]:
        """A session that was saved; a half-written last frame is left out."""
        state = json.loads((folder / "session.json").read_text())
        transcript = Transcript(state["bytes_max"])
        output = (folder / "output").read_bytes() if (folder / "output").exists() else b""
        position = 0
        while position + _FRAME.size <= len(output):
            channel, length = _FRAME.unpack_from(output, position)
            data = output[position + _FRAME.size : position + _FRAME.size + length]
            if len(data) < length:
                break
            transcript.keep(channel, data)
            position += _FRAME.size + length
        transcript._folder, transcript._token = folder, state["token"]
        return transcript, ExecSession.model_validate(state["record"]), state["token"]
