"""One line per event on stderr, `time level program event key=value …`, that a person reads and a tool splits.

Light on purpose: the supervisor lives for ever with it. Secrets never get here: fields whose name sounds like one
are masked, whatever the caller meant.
"""

from __future__ import annotations

import json
import re
import sys
import time
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    import logging

LEVELS = ("debug", "info", "warning", "error")
VALUE_CHARACTERS_MAX = 8000
MASK = "***"

_SECRET = re.compile(r"(^|_)(key|token|secret|password|passwd|authorization|cookie)(_|$)", re.IGNORECASE)
_BEARER = re.compile(r"(?i)\b(bearer\s+)\S+")
# A bounded scheme: with `\w+` a long word costs the square of its length.
_URL_PASSWORD = re.compile(r"(\w{1,16}://[^/\s:@]*):[^/\s@]*@")
_PLAIN = re.compile(r"[A-Za-z0-9_./:@,+%-]+")


def line(at_s: float, level: str, program: str, event: str, fields: dict[str, object]) -> str:
    """The text of one event, without its newline and always on one line."""
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at_s)) + f".{int(at_s % 1 * 1000):03d}Z"
    told = [f"{name}={_value(name, value)}" for name, value in fields.items() if value is not None]
    return " ".join([moment, level, program, _printable(_without_secrets(event)), *told])


def _value(name: str, value: object) -> str:
    if _SECRET.search(name):
        return MASK
    text = _without_secrets(f"{value:.1f}" if isinstance(value, float) else str(value))
    return text if _PLAIN.fullmatch(text) else _printable(json.dumps(text, ensure_ascii=False))


def _without_secrets(text: str) -> str:
    text = _URL_PASSWORD.sub(rf"\1:{MASK}@", _BEARER.sub(rf"\1{MASK}", text))
    return text if len(text) <= VALUE_CHARACTERS_MAX else text[:VALUE_CHARACTERS_MAX] + "…"


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else f"\\u{ord(each):04x}" for each in text)


class Log:
    """What a program is given to tell what it does. Never raises: a closed stderr must not stop a sandbox."""

    def __init__(self, program: str, level: str = "info", stream: TextIO | None = None) -> None:
        self._program = program
        self._threshold = LEVELS.index(level)
        self._stream = stream or sys.stderr

    def debug(self, event: str, **fields: object) -> None:
        self._tell("debug", event, fields)

    def info(self, event: str, **fields: object) -> None:
        self._tell("info", event, fields)

    def warning(self, event: str, **fields: object) -> None:
        self._tell("warning", event, fields)

    def error(self, event: str, **fields: object) -> None:
        self._tell("error", event, fields)

    def _tell(self, level: str, event: str, fields: dict[str, object]) -> None:
        if LEVELS.index(level) < self._threshold:
            return
        try:
            self._stream.write(line(time.time(), level, self._program, event, fields) + "\n")
            self._stream.flush()
        except (OSError, ValueError):
            pass


def route_standard_logging(program: str, level: str = "info") -> None:
    """Send what libraries (and our own `logging.getLogger`) say through the same lines; once, at program start."""
    import logging

    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_formatter(program))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # They tell every connection at debug and info, asyncssh every command too: of no use to an operator, or too much.
    for noisy in ("asyncio", "asyncssh", "uvicorn", "aiosqlite", "websockets"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _formatter(program: str) -> logging.Formatter:
    import logging

    ordinary = set(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message"}

    class LineFormatter(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            fields = {name: value for name, value in vars(record).items() if name not in ordinary}
            fields["logger"] = record.name
            if record.exc_info:
                fields["trace"] = self.formatException(record.exc_info)
            level = record.levelname.lower().replace("critical", "error")
            return line(record.created, level, program, record.getMessage(), fields)

    return LineFormatter()
