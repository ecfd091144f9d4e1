"""Hold every sandbox to its policy: the firewall's sets, the guest's copy, the log, what names have opened."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from weakref import WeakValueDictionary

from pydantic import ValidationError

from skerry.agent.firewall import Firewall, Placed
from skerry.agent.logs import OutputLogs
from skerry.agent.ruleset import Judged
from skerry.clock import Clock
from skerry.model.policy import Action, NameAsked, Policy, PolicyTest
from skerry.model.verdict import AddressJudge, NameJudge, Ranges, Verdict, is_looser, judge_answer, replay

QUERIES_PER_S_MAX = 50.0
QUERIES_AT_ONCE_MAX = 500
"""Installing a thousand packages asks some hundred names in a second, and then none for long."""
PINS_PER_SANDBOX_MAX = 4096
PIN_GRACE_S = 60.0
"""A pin outlives what the guest was told, so that it can still use an answer in its last second."""
REPEAT_S = 10.0
"""A name that is asked for again within this, with the same outcome, is one line of the log."""
LINES_REMEMBERED_MAX = 1024
POLICY_FILE = "network.json"


@dataclass
class Box:
    """One sandbox whose names we judge."""

    sandbox_id: str
    address: str
    policy: Policy
    names: NameJudge
    addresses: AddressJudge
    member: bool = False
    """Of a private network: then names of other members are ours to answer, too."""
    pinned: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    """address -> the names that led there; what an earlier agent pinned is not in it."""
    written: dict[tuple[str, Action], float] = field(default_factory=dict[tuple[str, Action], float])
    tokens: float = QUERIES_AT_ONCE_MAX
    counted_s: float = 0.0
    asking: int = 0
    closed: bool = field(init=False)

    def __post_init__(self) -> None:
        self.closed = self.policy.default is Action.DENY

    def may_ask(self, now_s: float) -> bool:
        """A bucket that fills by QUERIES_PER_S_MAX."""
        passed_s, self.counted_s = now_s - self.counted_s, now_s
        self.tokens = min(QUERIES_AT_ONCE_MAX, self.tokens + passed_s * QUERIES_PER_S_MAX)
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class Egress:
    def __init__(self, *, firewall: Firewall, logs: OutputLogs, folder: Path, clock: Clock) -> None:
        """`folder`: below it every sandbox has one that it sees, with its policy."""
        self._firewall = firewall
        self._logs = logs
        self._folder = folder
        self._clock = clock
        self._boxes: dict[str, Box] = {}
        self._by_address: dict[str, Box] = {}
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    # The policy of each

    def folder(self, sandbox_id: str) -> Path:
        return self._folder / sandbox_id

    async def hold(self, sandbox_id: str, address: str | None, policy: Policy, *, member: bool = False) -> None:
        """From now on to this policy. What is connected goes on only if the new one surely allows all that the old
        one did, or allows this. `address`: None where there is no network."""
        async with self._turn(sandbox_id):
            self._write(sandbox_id, policy)
            had = self._boxes.get(sandbox_id)
            if had is not None and had.address != address:
                self._drop(had)
                had = None
            if address is None:
                return
            box = Box(sandbox_id, address, policy, NameJudge(policy), AddressJudge(policy), member)
            if had is not None:
                box.tokens, box.counted_s, box.written = had.tokens, had.counted_s, had.written
                box.pinned = _still_allowed(had.pinned, box)
            # After a restart of the agent there is nothing to compare with: the kernel holds what it was told before.
            anew = had is not None and policy != had.policy and not is_looser(policy, had.policy)
            # Even where nothing has changed: the address may have been given back and taken anew.
            how = placed(policy, member=member)
            await asyncio.to_thread(self._firewall.place, address, how, anew=anew, keep=box.pinned)
            self._boxes[sandbox_id] = self._by_address[address] = box

    def _drop(self, box: Box) -> None:
        self._boxes.pop(box.sandbox_id, None)
        self._by_address.pop(box.address, None)

    def _turn(self, sandbox_id: str) -> asyncio.Lock:
        """A policy and an answer that was judged by another must not cross on their way to the firewall."""
        return self._turns.setdefault(sandbox_id, asyncio.Lock())

    async def forget(self, sandbox_id: str) -> None:
        """It is deleted, and with it the log of what it asked."""
        box = self._boxes.get(sandbox_id)
        if box is not None:
            self._drop(box)
        await self._logs.remove(sandbox_id)
        await asyncio.to_thread(shutil.rmtree, self.folder(sandbox_id), ignore_errors=True)

    def _write(self, sandbox_id: str, policy: Policy) -> None:
        """Replaced as a whole, in a folder that the guest sees and cannot write."""
        folder = self.folder(sandbox_id)
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o755)
        scratch = folder / f".{POLICY_FILE}"
        scratch.write_text(policy.model_dump_json(indent=2, exclude_none=True) + "\n")
        scratch.chmod(0o644)
        os.replace(scratch, folder / POLICY_FILE)

    async def close(self) -> None:
        await self._logs.close()

    # For the resolver

    def box_at(self, address: str) -> Box | None:
        """The sandbox that has this address; nobody else can send from it."""
        return self._by_address.get(address)

    async def open_to(self, box: Box, name: str, addresses: Iterable[str], ttl_s: int) -> bool:
        """Let it reach these because `name` led there. False when it already reaches as many as are allowed, or is
        judged otherwise by now."""
        if not box.closed:
            return True
        targets = set(addresses)
        async with self._turn(box.sandbox_id):
            reached = self._firewall.pins(box.address)
            if not self.holds(box) or len(reached | targets) > PINS_PER_SANDBOX_MAX:
                return False
            await asyncio.to_thread(self._firewall.pin, box.address, targets, ttl_s + PIN_GRACE_S)
            for gone in box.pinned.keys() - reached - targets:
                del box.pinned[gone]
            for target in targets:
                box.pinned.setdefault(target, set()).add(name)
        return True

    def holds(self, box: Box) -> bool:
        """Whether this is still how the sandbox is judged: its policy may have changed while somebody was asked."""
        return self._boxes.get(box.sandbox_id) is box

    # The log

    def note(self, box: Box, name: str, kind: str, verdict: Verdict, addresses: Iterable[str] = ()) -> None:
        if not (box.policy.judges_names or box.policy.observe):
            return
        now_s = self._clock.monotonic_s()
        key = (name, verdict.action)  # of any type: whoever asks for an address mostly asks for an IPv6 one, too
        if now_s - box.written.get(key, -REPEAT_S) < REPEAT_S:
            return
        if len(box.written) >= LINES_REMEMBERED_MAX:
            box.written.clear()
        box.written[key] = now_s
        line = NameAsked(
            at=self._clock.now(),
            name=name,
            type=kind,
            action=verdict.action,
            rule=verdict.rule,
            why=verdict.why,
            addresses=list(addresses),
        )
        self._logs.of(box.sandbox_id).write(line.model_dump_json().encode() + b"\n")

    def read_log(self, sandbox_id: str, *, follow: bool, tail: int | None) -> AsyncIterator[bytes]:
        """Lines of NameAsked."""
        return self._logs.of(sandbox_id).read(follow=follow, tail=tail)

    async def test(self, sandbox_id: str, draft: Policy) -> PolicyTest:
        """What would have become of all that the log holds."""
        whole = b"".join([chunk async for chunk in self.read_log(sandbox_id, follow=False, tail=None)])
        return await asyncio.to_thread(lambda: replay(_lines(whole), draft))


def placed(policy: Policy, *, member: bool = False) -> Placed:
    """How the firewall judges under this policy."""
    ranges = AddressJudge(policy).ranges()
    if policy.default is Action.DENY:
        judged = Judged.CLOSED
    elif policy.has_names:
        judged = Judged.BY_NAMES
    else:
        judged = Judged.BY_RANGES if ranges != Ranges() else Judged.OPEN
    return Placed(judged, asks_us=policy.judges_names or policy.observe or member, ranges=ranges)


def _still_allowed(pinned: dict[str, set[str]], box: Box) -> dict[str, set[str]]:
    kept: dict[str, set[str]] = {}
    for address, names in pinned.items():
        still = {name for name in names if judge_answer(box.names.judge(name), [address], box.addresses).allows}
        if still:
            kept[address] = still
    return kept


def _lines(whole: bytes) -> Iterable[NameAsked]:
    for line in whole.splitlines():
        try:
            yield NameAsked.model_validate_json(line)
        except ValidationError:
            continue  # cut short by a power failure
