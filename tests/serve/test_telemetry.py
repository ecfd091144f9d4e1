"""Log lines: one event is one line, and secrets never reach it."""

from __future__ import annotations

import io
import subprocess
import sys

from skerry.telemetry import VALUE_CHARACTERS_MAX, Log, line


def test_a_line_reads_and_splits() -> None:
    told = line(1_700_000_000.25, "info", "agent", "sandbox started", {"id": "sb-1", "took_ms": 12.345, "why": None})
    assert told == "2023-11-14T22:13:20.250Z info agent sandbox started id=sb-1 took_ms=12.3"


def test_hostile_text_stays_on_one_line() -> None:
    told = line(0, "info", "agent", "a\nb", {"path": "x\n2026 error agent forged \x1b[31m\u2028"})
    assert "\n" not in told
    assert "\x1b" not in told
    assert "\u2028" not in told
    assert told.isprintable()


def test_secrets_are_masked() -> None:
    fields = {
        "api_key": "sk_abc",
        "Authorization": "Bearer abc",
        "url": "postgresql://ann:hunter2@db/skerry",
        "headers": "authorization: Bearer sk_abc",
        "password": "hunter2",
        "monkey": "seen",
    }
    told = line(0, "info", "control", "Bearer sk_abc", fields)
    assert "sk_abc" not in told
    assert "hunter2" not in told
    assert "monkey=seen" in told
    assert "ann:***@db" in told


def test_a_value_has_a_limit() -> None:
    assert len(line(0, "info", "agent", "big", {"body": "x" * 100_000})) < VALUE_CHARACTERS_MAX + 200


def test_levels_and_a_closed_stream() -> None:
    stream = io.StringIO()
    log = Log("agent", "warning", stream)
    log.info("unheard")
    log.error("heard")
    assert "unheard" not in stream.getvalue()
    assert "heard" in stream.getvalue()
    stream.close()
    log.error("nobody listens")


def test_libraries_speak_through_the_same_lines() -> None:
    code = (
        "import logging; from skerry.telemetry import route_standard_logging; route_standard_logging('control');"
        "logging.getLogger('lib').warning('careful', extra={'token': 'abc', 'size': 3});"
        "\ntry: 1/0\nexcept ZeroDivisionError: logging.getLogger('lib').exception('failed')"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr
    first, second = told.splitlines()
    assert first.endswith("warning control careful token=*** size=3 logger=lib")
    assert "ZeroDivisionError" in second
