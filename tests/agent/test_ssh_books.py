"""Who is let in by SSH: the book of keys over restarts, the crowd at the door, the name that is logged in as."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from skerry.agent.ssh.crowd import ARRIVALS_BURST, CONNECTIONS_MAX, OF_ONE_SANDBOX_MAX, UNKNOWN_MAX, Crowd
from skerry.agent.ssh.keys import AllowedKey, KeyBook
from skerry.model.ssh import SSH_KEYS_MAX, parse_login

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def key(number: int, *, at_s: float = 0, for_s: float = 100) -> AllowedKey:
    made = BEGAN + timedelta(seconds=at_s)
    return AllowedKey(
        fingerprint=f"SHA256:{number}",
        created_at=made,
        expires_at=made + timedelta(seconds=for_s),
        public_key=f"ssh-ed25519 {number}",
    )


def after(s: float) -> datetime:
    return BEGAN + timedelta(seconds=s)


def book(folder: Path, *alive: str) -> KeyBook:
    made = KeyBook(folder)
    made.open(set(alive))
    return made


def test_keys_survive_a_restart_until_they_end(tmp_path: Path) -> None:
    first = book(tmp_path)
    first.add("sb-1", key(1))
    first.add("sb-1", key(2, for_s=500))
    first.add("sb-2", key(3))
    (tmp_path / "sb-1.new").write_text("half a fi")  # an agent that died here left it
    again = book(tmp_path, "sb-1", "sb-2")
    assert again.owner_of("SHA256:1", after(99)) == "sb-1"
    assert again.owner_of("SHA256:1", after(100)) is None
    assert again.owner_of("SHA256:2", after(100)) == "sb-1"
    assert again.owner_of("SHA256:3", after(1)) == "sb-2"
    assert again.owner_of("SHA256:4", after(1)) is None


def test_keys_go_with_their_sandbox(tmp_path: Path) -> None:
    first = book(tmp_path)
    for number in range(3):
        first.add(f"sb-{number}", key(number))
    first.forget("sb-0")
    first.forget("sb-0")
    assert first.owner_of("SHA256:0", after(1)) is None
    again = book(tmp_path, "sb-1")  # sb-2 was deleted by an agent that died before it came to the book
    assert again.owner_of("SHA256:2", after(1)) is None
    assert [path.name for path in tmp_path.iterdir()] == ["sb-1.json"]


def test_book_that_cannot_be_read_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "sb-1.json").write_text("{")
    assert book(tmp_path, "sb-1").of("sb-1", after(0)) == []
    assert (tmp_path / "sb-1.unreadable").exists()


def test_newest_keys_are_kept(tmp_path: Path) -> None:
    made = book(tmp_path)
    for number in range(SSH_KEYS_MAX + 3):
        made.add("sb-1", key(number))
    assert [each.fingerprint for each in made.of("sb-1", after(1))] == [
        f"SHA256:{number}" for number in range(3, SSH_KEYS_MAX + 3)
    ]
    assert made.owner_of("SHA256:0", after(1)) is None


@given(st.lists(st.tuples(st.sampled_from(["admit", "settle", "leave"]), st.integers(0, 90)), max_size=300))
def test_crowd_is_bounded_and_forgets_who_left(moves: list[tuple[str, int]]) -> None:
    crowd: Crowd[int] = Crowd(lambda: 0.0)
    inside: set[int] = set()
    unknown: set[int] = set()
    for move, visitor in moves:
        if move == "admit" and visitor not in inside | unknown:
            if crowd.admit(visitor):
                unknown.add(visitor)
        elif move == "settle" and visitor in unknown:
            unknown.discard(visitor)
            if crowd.settle(visitor, "sb-1"):
                inside.add(visitor)
        elif move == "leave":
            crowd.leave(visitor)
            inside.discard(visitor)
            unknown.discard(visitor)
        assert set(crowd.of("sb-1")) == inside
        assert set(crowd.all()) == inside | unknown
        assert len(unknown) <= UNKNOWN_MAX
        assert len(inside) <= OF_ONE_SANDBOX_MAX


def test_crowd_lets_in_no_more_at_a_time_than_the_agent_bears() -> None:
    now_s = [0.0]
    crowd: Crowd[int] = Crowd(lambda: now_s[0])
    visitors = itertools.count()

    def arrive(count: int) -> int:
        let_in = 0
        for visitor in (next(visitors) for _ in range(count)):
            if crowd.admit(visitor):
                let_in += 1
                crowd.settle(visitor, f"sb-{visitor}")
        return let_in

    assert arrive(1000) == ARRIVALS_BURST
    now_s[0] = 1.0
    assert arrive(1000) == 30
    for second in range(2, 100):
        now_s[0] = float(second)
        arrive(1000)
    assert len(crowd.all()) == CONNECTIONS_MAX


def test_login_names() -> None:
    assert parse_login("box") == ("box", None)
    assert parse_login("sb-0123456789ab+bob") == ("sb-0123456789ab", "bob")
    assert parse_login("box+1000:1000") == ("box", "1000:1000")
    for wrong in ("", "+bob", "box+", "box+a b", "box+bob+eve", "box+-x", "box+$(id)"):
        assert parse_login(wrong) is None, wrong
