"""running -> stopped or starting: notice that a sandbox ended by itself, or that its machine lost it.

The report stream only raises a suspicion. What is decided on is asked of the agent *after* the database was read: the
record said running at generation g before the agent said otherwise of g, so the answer cannot be older than the record.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, ClassVar

from skerry.client.agent import AgentClient
from skerry.control.reconcile.nodes.book import ReportBook
from skerry.model.order import Presence, Report
from skerry.model.sandbox import Exit, ExitReason, S, Sandbox
from skerry.store.store import Store

ADOPTABLE = (S.RUNNING, S.STOPPED, S.FAILED)


class ObserveSandboxes:
    moves: ClassVar = frozenset({(S.RUNNING, S.STOPPED), (S.RUNNING, S.STARTING)})

    def __init__(self, store: Store, agent: AgentClient, book: ReportBook) -> None:
        self._store = store
        self._agent = agent
        self._book = book

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
                decided = decide(sandbox, truth.get(sandbox.id), tx.now)
                if decided is None:
                    continue
                to, event, message, changes = decided
                if to is None:
                    await tx.sandboxes.change(sandbox, changes)
                else:
                    await tx.sandboxes.move(sandbox, to, event, message=message, changes=changes)

    def _suspect(self, sandbox_id: str, state: S, generation: int) -> bool:
        report = self._book.get(sandbox_id)
        if report is not None and report.generation > generation and state in ADOPTABLE:
            return True
        return state is S.RUNNING and (report is None or report.presence is not Presence.RUNNING)


Decision = tuple[S | None, str, str, dict[str, Any]]
"""(new state or None for only the changes, event, message, changes)"""


def decide(sandbox: Sandbox, report: Report | None, now: datetime) -> Decision | None:
    """None: all is well, or not ours to say."""
    if report is not None and report.generation > sandbox.generation and sandbox.state in ADOPTABLE:
        # The database is older than the machine (restored from a backup). Without this every order would be refused
        # as outdated for ever; what runs is left as it is.
        return None, "", "", {"generation": report.generation}
    if sandbox.state is not S.RUNNING or (report is not None and report.presence is Presence.RUNNING):
        return None
    if report is not None and report.presence is Presence.STOPPED and report.generation == sandbox.generation:
        exit = report.exit or Exit(reason=ExitReason.LOST, at=now)
        event = "oom" if exit.reason is ExitReason.OOM else "stopped"
        code = "with a code nobody saw" if exit.code is None else f"with code {exit.code}"
        return S.STOPPED, event, f"its main process ended {code}", {"exit": exit}
    lost = {"generation": sandbox.generation + 1, "restarts": sandbox.restarts + 1}
    return S.STARTING, "lost", "its machine lost it; it is started again on its disk", lost
