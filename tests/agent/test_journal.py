"""The journal: replaced whole, read back after a crash, and it remembers what was deleted."""

from __future__ import annotations

import json
from pathlib import Path

from skerry.agent import journal
from skerry.agent.journal import Entry, Journal, Wanted
from skerry.model.order import Order
from skerry.model.policy import Rule
from skerry.model.sandbox import Network, SandboxSpec


def entry(sandbox_id: str, wanted: Wanted = Wanted.RUNNING, **more: object) -> Entry:
    order = Order(
        sandbox_id=sandbox_id,
        generation=1,
        name="box",
        spec=SandboxSpec(image="debian:12", env={"TOKEN": "s3cret"}),
        image_digest="sha256:1",
    )
    return Entry(sandbox_id=sandbox_id, generation=1, wanted=wanted, order=order, **more)  # pyright: ignore[reportArgumentType]


def test_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    first = Journal(tmp_path)
    first.open()
    written = first.put(entry("sb-1", slot=7, address="10.0.0.2"))
    second = Journal(tmp_path)
    second.open()
    assert second.get("sb-1") == written
    assert second.slots() == {"sb-1": 7}
    assert (tmp_path / "sb-1.json").stat().st_mode & 0o777 == 0o600


def test_a_torn_file_is_set_aside_and_not_lost(tmp_path: Path) -> None:
    (tmp_path / "sb-1.json").write_text('{"sandbox_id": "sb-1", "gener')
    opened = Journal(tmp_path)
    opened.open()
    assert opened.all() == []
    assert (tmp_path / "sb-1.unreadable").exists()


def test_what_an_older_agent_wrote_is_understood(tmp_path: Path) -> None:
    written = json.loads(entry("sb-1").model_dump_json())
    written["order"]["hostname"] = written["order"].pop("name")
    written["order"]["spec"]["network"] = {"enabled": True, "allow": ["10.1.0.0/16"]}
    (tmp_path / "sb-1.json").write_text(json.dumps(written))
    opened = Journal(tmp_path)
    opened.open()
    kept = opened.get("sb-1")
    assert kept is not None
    assert kept.order is not None
    assert kept.order.spec.network == Network(rules=[Rule(cidr="10.1.0.0/16")])
    assert (kept.order.name, kept.order.hostname) == ("box", "box")


def test_tombstones_are_bounded_and_the_oldest_go_first(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(journal, "TOMBSTONES_MAX", 3)
    opened = Journal(tmp_path)
    opened.open()
    opened.put(entry("sb-alive"))
    for number in range(6):
        opened.put(entry(f"sb-{number}", Wanted.ABSENT).model_copy(update={"order": None}))
    assert [kept.sandbox_id for kept in opened.all()] == ["sb-alive", "sb-3", "sb-4", "sb-5"]
    assert len(list(tmp_path.glob("*.json"))) == 4
