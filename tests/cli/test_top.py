"""`skerry top`: what is shown of a look, for people and for programs."""

from __future__ import annotations

from typing import Any

from skerry.cli.top import _drawn
from skerry.cli.top_view import HEADINGS, Look, row, table, totals

SIGNALS = {
    "in_flight": 3,
    "waiting": 1,
    "requests_per_s": 12.34,
    "errors_per_s": 0.0,
    "tokens_per_s": 512.4,
    "ttft_p50_s": 0.081,
    "ttft_p99_s": 12.0,
    "cache_use": 0.425,
}


def service(name: str, **more: Any) -> dict[str, Any]:
    told = {"name": name, "project": "default", "state": "active", "status": "healthy", "ready": 2, "wanted": 2}
    return {**told, "spec": {"addresses": [], "roles": {}}, **more}


def node(**more: Any) -> dict[str, Any]:
    told = {"name": "here", "state": "ready", "cpu": 8, "memory_bytes": 2**34, "running": 3, "sandboxes": 5}
    return {**told, "used": {"cpu": 2, "memory_bytes": 2**33}, **more}


def test_a_row_of_each_kind() -> None:
    assert row(service("chat", signals=SIGNALS), "2/2")[3:] == [
        *("3", "1", "12.3", "0.0", "512", "81ms", "12.0s", "42%"),
    ]
    assert row(service("idle"), "0/2")[3:] == ["-"] * (len(HEADINGS) - 3)


def test_numbers_stand_to_the_right() -> None:
    lines = table([row(service("chat", signals=SIGNALS), "2/2"), row(service("a-long-name"), "2/2")])
    assert lines[0].index("STATUS") == lines[1].index("healthy") == lines[2].index("healthy")
    assert lines[1].endswith("42%")


def test_what_all_machines_have_promised() -> None:
    seen = Look([], [node(), node(state="unreachable")], {"running": 2, "pending": 0})
    assert totals(seen)[0] == "nodes 1 of 2 ready   sandboxes 6 of 10 placed   jobs 2 running"
    assert "4 of 16 promised" in totals(seen)[1]
    assert "16.0GiB of 32.0GiB promised" in totals(seen)[2]
    assert seen.json()["nodes"][0]["used"]["cpu"] == 2


def test_on_a_low_screen_the_busy_are_seen() -> None:
    many = [service(f"idle-{at}") for at in range(20)] + [service("chat", signals=SIGNALS)]
    drawn = _drawn(Look(many, [node()], {"running": 0, "pending": 0}), 12).plain.splitlines()
    assert len(drawn) <= 12
    assert drawn[6].startswith("chat")
    assert drawn[-1] == "and 16 more"
