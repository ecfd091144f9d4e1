"""running -> asleep, stopped or starting: notice what a sandbox or its machine did by itself (sleep, wake, end, loss).

The report stream only raises a suspicion. What is decided on is asked of the agent *after* the database was read: the
record said running at generation g before the agent said otherwise of g, so the answer cannot be older than the record.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, ClassVar

from skerry.client.agent import AgentClient
from skerry.control.reconcile.nodes.book import ReportBook
from skerry.model.guest_service import HealthStatus, Statuses, health_news, news
from skerry.model.order import Presence, Report
from skerry.model.restart import backoff_s, failures_after
from skerry.model.sandbox import Exit, ExitReason, S, Sandbox
from skerry.model.sleep import Asleep
from skerry.store.store import Store
from skerry.store.transaction import Transaction

ADOPTABLE = (S.RUNNING, S.ASLEEP, S.STOPPED, S.FAILED)


class ObserveSandboxes:
    moves: ClassVar = frozenset(
        {
            (S.RUNNING, S.ASLEEP),
            (S.ASLEEP, S.RUNNING),
            *((was, to) for was in (S.RUNNING, S.ASLEEP) for to in (S.STOPPED, S.STARTING)),
        }
    )

    def __init__(self, store: Store, agent: AgentClient, book: ReportBook) -> None:
        self._store = store
        self._agent = agent
        self._book = book
        self._tiers: dict[str, Asleep] = {}
        """How each sleeper was last written down: the database is not asked for what most often has not changed."""
        self._said: dict[str, Said] = {}
        """Likewise what is said of services and health."""

    async def step(self) -> None:
        if not self._book.heard or self._book.node is None:
            return
        async with self._store.read() as tx:
            known = await tx.sandboxes.generations(self._book.node)
            suspects = await tx.sandboxes.with_ids(
                [key for key, (state, generation) in known.items() if self._suspect(key, state, generation)]
            )
        if not suspects:
            return
        truth = {report.sandbox_id: report for report in await self._agent.reports()}
        async with self._store.write() as tx:
            for sandbox in suspects:
                report = truth.get(sandbox.id)
                agreed = await _settle(tx, sandbox, decide(sandbox, report, tx.now))
                if agreed and report is not None:
                    await self._remember(tx, sandbox, report)
        self._said = {key: said for key, said in self._said.items() if key in known}
        self._tiers = {key: asleep for key, asleep in self._tiers.items() if key in known}

    async def _remember(self, tx: Transaction, sandbox: Sandbox, report: Report) -> None:
        """The record now says what this report did."""
        if report.asleep is not None:
            self._tiers[sandbox.id] = report.asleep
        if sandbox.state in (S.RUNNING, S.ASLEEP):
            self._said[sandbox.id] = (report.services, report.health)
            told = news(sandbox.services, report.services) + health_news(sandbox.health, report.health)
            await tx.events.add([("sandbox", sandbox.id, sandbox.name, kind, say) for kind, say in told])

    def _suspect(self, sandbox_id: str, state: S, generation: int) -> bool:
        report = self._book.get(sandbox_id)
        if report is not None and report.generation > generation and state in ADOPTABLE:
            return True
        if state not in (S.RUNNING, S.ASLEEP):
            return False
        if report is not None and (report.services, report.health) != self._said.get(sandbox_id, ((), None)):
            return True
        if state is S.RUNNING:
            return report is None or report.presence is not Presence.RUNNING
        if report is None or report.presence is not Presence.ASLEEP:
            return True
        return report.asleep != self._tiers.get(sandbox_id)


Said = tuple[Statuses, HealthStatus | None]
Decision = tuple[S | None, str, str, dict[str, Any]]
"""(new state or None for only the changes, event, message, changes)"""


async def _settle(tx: Transaction, sandbox: Sandbox, decided: Decision | None) -> bool:
    """Whether the record now says what was decided."""
    if decided is None:
        return True
    to, event, message, changes = decided
    if to is None:
        return await tx.sandboxes.change(sandbox, changes) is not None
    return await tx.sandboxes.move(sandbox, to, event, message=message, changes=changes) is not None


def decide(sandbox: Sandbox, report: Report | None, now: datetime) -> Decision | None:
    """None: all is well, or not ours to say."""
    if report is not None and report.generation > sandbox.generation and sandbox.state in ADOPTABLE:
        # The database is older than the machine (restored from a backup). Without this every order would be refused
        # as outdated for ever; what runs is left as it is.
        return None, "", "", {"generation": report.generation}
    if sandbox.state not in (S.RUNNING, S.ASLEEP):
        return None
    if report is not None and report.presence in (Presence.RUNNING, Presence.ASLEEP):
        return _awake_or_asleep(sandbox, report)
    if report is not None and report.presence is Presence.STOPPED:
        # At an older generation it ended before its machine was told of a change.
        return _ended(sandbox, report.exit or Exit(reason=ExitReason.LOST, at=now), now)
    if sandbox.job is not None:
        # Half of a computation is not taken up again by its program alone: its job begins the whole try anew.
        gone = {"exit": Exit(reason=ExitReason.LOST, at=now), "asleep": None, "services": (), "health": None}
        return S.STOPPED, "lost", "its machine lost it", gone
    lost = {"generation": sandbox.generation + 1, "restarts": sandbox.restarts + 1}
    lost |= {"asleep": None, "services": (), "health": None}
    return S.STARTING, "lost", "its machine lost it; it is started again on its disk", lost


def _ended(sandbox: Sandbox, exit: Exit, now: datetime) -> Decision:
    code = "with a code nobody saw" if exit.code is None else f"with code {exit.code}"
    message = f"its main process ended {code}"
    if exit.reason is ExitReason.UNHEALTHY:
        message = "it was unhealthy" + (
            f": {sandbox.health.reason}" if sandbox.health and sandbox.health.reason else ""
        )
    changes: dict[str, Any] = {"exit": exit, "asleep": None, "services": (), "health": None}
    oom = exit.reason is ExitReason.OOM
    ran_s = (exit.at - (sandbox.started_at or exit.at)).total_seconds()
    failures = failures_after(sandbox.spec.restart, exit.code, ran_s=ran_s, failures=sandbox.failures)
    if failures is None or exit.reason is ExitReason.STOPPED:
        # Who was to make room has done so by ending, and does not come back from that.
        changes["evicted"] = None
        return S.STOPPED, "oom" if oom else "stopped", message, changes
    wait_s = backoff_s(failures)
    message += f"; it is started again in {wait_s:g} s"
    changes |= {"generation": sandbox.generation + 1, "restarts": sandbox.restarts + 1, "failures": failures}
    changes |= {"starts_at": now + timedelta(seconds=wait_s), "reason": message}
    return S.STARTING, "oom" if oom else "restarting", message, changes


def _awake_or_asleep(sandbox: Sandbox, report: Report) -> Decision | None:
    asleep = report.asleep
    changes: dict[str, Any] = {"asleep": asleep, "services": report.services, "health": report.health}
    if asleep is None and sandbox.state is S.ASLEEP:
        return S.RUNNING, "woken", report.woken_by or "", changes | {"address": report.address}
    if asleep is not None and sandbox.state is S.RUNNING:
        return S.ASLEEP, "asleep", f"{asleep.tier.value}: {asleep.why}", changes
    known = (sandbox.asleep, sandbox.services, sandbox.health)
    return (None, "", "", changes) if known != (asleep, report.services, report.health) else None
