"""Conversations out of files: rows of any kind, ShareGPT, and logs whose bodies are sent as they were."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

from skerry.bench.arrow import dataset_files, table_rows
from skerry.bench.data.contract import Conversation, Turn
from skerry.bench.data.text import Writer
from skerry.errors import Invalid

PROMPTS = ("prompt", "text", "text_input", "input", "question", "instruction")
OUTPUTS = ("output_tokens", "max_tokens", "max_completion_tokens", "output_length", "output_len", "expected_output_len")
TIMES = ("timestamp", "time", "at", "TIMESTAMP", "Timestamp", "ts")
USERS = ("user", "user_id", "tenant")
BODIES = ("body", "request", "payload", "request_body")
Fields = Mapping[str, Any]


def json_lines(path: Path) -> Iterator[tuple[int, Fields]]:
    """(number of the line, what it says). Raises Invalid."""
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise Invalid(f"{path}, line {number}: not JSON: {error}", field="data.path") from None
                if not isinstance(row, dict):
                    raise Invalid(f"{path}, line {number}: an object is expected", field="data.path")
                yield number, cast(Fields, row)
    except (OSError, UnicodeDecodeError) as error:
        raise Invalid(f"{path} cannot be read", field="data.path", because=str(error)) from None


def csv_rows(path: Path) -> Iterator[tuple[int, Fields]]:
    """Raises Invalid."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as lines:  # newline: CRLF is the csv module's to read
            yield from enumerate(csv.DictReader(lines), 2)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Invalid(f"{path} cannot be read", field="data.path", because=str(error)) from None


def rows_of(path: Path) -> Iterator[tuple[int, Fields]]:
    """(number, what it says), by what kind of file it is, or of all files of a folder. Raises Invalid."""
    if path.is_dir():
        every = (row for file in dataset_files(path) for _, row in rows_of(file))
        yield from enumerate(every, 1)
    elif path.suffix in (".parquet", ".arrow"):
        yield from enumerate(table_rows(path), 1)
    else:
        yield from csv_rows(path) if path.suffix == ".csv" else json_lines(path)


def first_of(row: Fields, names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if row.get(name) not in (None, "")), None)


def moment_s(value: Any) -> float:
    """Seconds of a number, or of a date and time with as many digits of a second as it likes. Raises ValueError."""
    if isinstance(value, int | float):
        return float(value)
    text = str(value).strip()
    try:
        return float(text)
    except ValueError:
        pass
    # Python reads six digits of a second; traces have seven.
    head, dot, rest = text.partition(".")
    digits = rest[: next((at for at, character in enumerate(rest) if not character.isdigit()), len(rest))]
    zone = rest[len(digits) :].replace("Z", "+00:00") if dot else ""
    when = datetime.fromisoformat((head + zone).replace("Z", "+00:00"))
    return (when - datetime.fromtimestamp(0, when.tzinfo)).total_seconds() + float(f"0.{digits or 0}")


def headers_of(row: Fields, path: Path, number: int) -> dict[str, str]:
    """Of a row's own requests. Raises Invalid."""
    given = row.get("headers")
    if not given:
        return {}
    fields: Fields = cast(Fields, given) if isinstance(given, dict) else {}
    found = {str(name): str(value) for name, value in fields.items()}
    if not found or any(set("\r\n\0") & set(name + value) or ":" in name for name, value in found.items()):
        raise Invalid(f"{path}, row {number}: headers are names and values on one line each", field="data.path")
    return found


@dataclass(frozen=True)
class Rows:
    """`prompt` or `messages` and what else is known of it, a request each."""

    path: Path
    writer: Writer
    output_tokens: int = 0
    """Where a row does not say."""
    scenario: str = ""
    prompts: tuple[str, ...] = PROMPTS
    """What the column of the prompt may be called."""

    def conversations(self) -> Iterator[Conversation]:
        """Raises Invalid."""
        began_s: float | None = None
        for number, row in rows_of(self.path):
            try:
                output = int(first_of(row, OUTPUTS) or self.output_tokens)
                at = first_of(row, TIMES)
                at_s = None if at is None else moment_s(at)
            except ValueError as error:
                raise Invalid(f"{self.path}, row {number}: {error}", field="data.path") from None
            if at_s is not None:
                began_s = at_s if began_s is None else began_s
                at_s = max(0.0, at_s - began_s)
            messages = row.get("messages")
            text = first_of(row, self.prompts)
            if text is None and not messages:
                say = f"{self.path}, row {number}: neither messages nor a prompt, as {', '.join(self.prompts)}"
                say += "; give sharegpt:PATH for its conversations" if row.get("conversations") else ""
                raise Invalid(say, field="data.path")
            turn = Turn(str(text or ""), self.writer.count(str(text or "")), output, at_s=at_s)
            yield Conversation(
                [turn],
                str(row.get("system") or ""),
                scenario=self.scenario,
                messages=messages or (),
                user=str(first_of(row, USERS) or ""),
                headers=headers_of(row, self.path, number),
            )


@dataclass(frozen=True)
class ShareGpt:
    """Conversations, as one array or a row each: what people said; answers say only how long new ones should be."""

    path: Path
    writer: Writer
    turns_max: int = 1
    scenario: str = ""

    def conversations(self) -> Iterator[Conversation]:
        """Raises Invalid."""
        for number, entry in enumerate(self._entries()):
            parts: list[Fields] | None = entry.get("conversations")
            if parts is None:
                raise Invalid(f"{self.path}, entry {number}: it has no conversations", field="data.path")
            said = [(str(part.get("from")), str(part.get("value") or "")) for part in parts]
            system = said.pop(0)[1] if said and said[0][0] == "system" else ""
            turns: list[Turn] = []
            for (who, text), (_, answer) in pairwise(said):
                if who in ("human", "user") and text and len(turns) < self.turns_max:
                    turns.append(Turn(text, self.writer.count(text), max(1, self.writer.count(answer))))
            if turns:
                yield Conversation(turns, system, self.writer.count(system) if system else 0, self.scenario)

    def _entries(self) -> Iterator[Fields]:
        if self.path.is_dir() or self.path.suffix in (".jsonl", ".parquet", ".arrow"):
            yield from (row for _, row in rows_of(self.path))
            return
        try:
            entries: Any = json.loads(self.path.read_text())
        except (OSError, ValueError) as error:
            raise Invalid(f"{self.path} cannot be read as JSON", field="data.path", because=str(error)) from None
        if not isinstance(entries, list) or not all(isinstance(each, dict) for each in cast("list[Any]", entries)):
            raise Invalid(f"{self.path}: an array of conversations is expected", field="data.path")
        yield from cast("list[Fields]", entries)


@dataclass(frozen=True)
class Log:
    """Requests as a server wrote them down: JSON lines with the body, and the time if there is one."""

    path: Path
    scenario: str = ""

    def conversations(self) -> Iterator[Conversation]:
        """Raises Invalid."""
        began_s: float | None = None
        for number, row in json_lines(self.path):
            body = first_of(row, BODIES)
            body = row if body is None and ("messages" in row or "prompt" in row) else body
            if body is None:
                say = f"{self.path}, line {number}: no body, as {', '.join(BODIES)}"
                raise Invalid(say, field="data.path")
            raw = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False, separators=(",", ":"))
            at = first_of(row, TIMES) if body is not row else None
            try:
                at_s = None if at is None else moment_s(at)
            except ValueError as error:
                raise Invalid(f"{self.path}, line {number}: {error}", field="data.path") from None
            if at_s is not None:
                began_s = at_s if began_s is None else began_s
                at_s = max(0.0, at_s - began_s)
            user = first_of(row, USERS) or (first_of(cast(Fields, body), USERS) if isinstance(body, dict) else None)
            headers = headers_of(row, self.path, number) if body is not row else {}
            turn = Turn("", at_s=at_s)
            yield Conversation(
                [turn], scenario=self.scenario, raw=[raw.encode()], user=str(user or ""), headers=headers
            )
