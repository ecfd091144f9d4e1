"""What was used of services, by hour, and the parts of limits that gateways have been given to spend."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from skerry.model.token import Limits, Metered
from skerry.model.traffic import Take, Taken, UsageReport
from skerry.store.service_tables import held, set_aside, taken, usage, usage_reports

if TYPE_CHECKING:
    from skerry.store.transaction import Transaction

HOUR_S, MINUTE_S = 3600, 60
REPORT_S_MAX = 86_400.0
"""How long a gateway may repeat a report before it would be counted again."""
USAGE_S_MAX = 400 * 86_400
HELD_S = 5.0
"""Requests at once are given for so long; a gateway asks again well before."""
SET_ASIDE_S = 60.0
"""Tokens of a budget are kept for a gateway for so long; it says again well before that it has some."""
LIMITS_LOCK = 0x5CE77A
"""PostgreSQL's advisory lock."""
COUNTS = ("requests", "errors", "prompt_tokens", "cached_tokens", "completion_tokens", "seconds")


class Metering:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def count(self, report: UsageReport) -> bool:
        """False: it has been counted before."""
        transaction = self._transaction
        insert = sqlite.insert if transaction.is_sqlite else postgresql.insert
        seen = {"gateway": report.gateway, "number": report.number, "at_s": transaction.now.timestamp()}
        fresh = insert(usage_reports).values(seen).on_conflict_do_nothing().returning(usage_reports.c.number)
        if await transaction.connection.scalar(fresh) is None:
            return False
        # In one order by whoever counts: of two control programs neither may wait for a row that the other has.
        for each in sorted(report.metered, key=lambda one: (one.service, one.model, one.client, one.hour)):
            row = {
                "project": transaction.project,
                "service": each.service,
                "model": each.model[:128],
                "client": each.client[:63],
                "hour_s": int(each.hour.timestamp()) // HOUR_S * HOUR_S,
                **{name: getattr(each, name) for name in COUNTS},
            }
            made = insert(usage).values(row)
            more = {name: usage.c[name] + made.excluded[name] for name in COUNTS}
            keys = ["project", "service", "model", "client", "hour_s"]
            await transaction.connection.execute(made.on_conflict_do_update(index_elements=keys, set_=more))
        for token, count in sorted(report.spent.items()):
            await transaction.tokens.spend(token, count)
        return True

    async def list(self, *, service: str | None = None, since: datetime, limit: int) -> list[Metered]:
        """The newest hours first."""
        c = usage.c
        columns = (c.service, c.model, c.client, c.hour_s, *(c[name] for name in COUNTS))
        query = select(*columns).where(c.project == self._transaction.project, c.hour_s >= since.timestamp())
        if service is not None:
            query = query.where(c.service == service)
        query = query.order_by(c.hour_s.desc(), c.service, c.model, c.client).limit(limit)
        found: Any = await self._transaction.connection.execute(query)
        rows: list[tuple[Any, ...]] = [tuple(row) for row in found.all()]
        return [
            Metered(
                service=row[0],
                model=row[1],
                client=row[2],
                hour=datetime.fromtimestamp(row[3], UTC),
                **dict(zip(COUNTS, row[4:], strict=True)),
            )
            for row in rows
        ]

    async def take(self, asked: Take, limits: Limits, spent: int) -> Taken:
        """A part of what is left of this minute of the clock; what is not spent by its end is void, so that no minute
        ever has more than the limit, however many gateways there are."""
        await self.lock()
        now_s = self._transaction.now.timestamp()
        left_s = MINUTE_S - now_s % MINUTE_S
        budget = (
            None if limits.budget_tokens is None else await self._budget(asked, limits.budget_tokens - spent, now_s)
        )
        given = await self._of_minute(asked, limits, budget, int(now_s) // MINUTE_S)
        if budget is not None:
            await self._set_aside(asked, asked.set_aside + given.tokens, now_s)
            budget -= given.tokens
        concurrency = await self._at_once(asked, limits.concurrency, now_s)
        is_spent = limits.budget_tokens is not None and spent >= limits.budget_tokens
        told = {"concurrency": concurrency, "for_s": min(left_s, HELD_S), "resets_s": left_s, "spent": is_spent}
        return given.model_copy(update={**told, "budget_left": budget})

    async def lock(self) -> None:
        """Of two gateways that take at once, one sees what the other got."""
        if not self._transaction.is_sqlite:  # which has one writer at a time anyway
            await self._transaction.connection.execute(text(f"SELECT pg_advisory_xact_lock({LIMITS_LOCK})"))

    async def _budget(self, asked: Take, left: int, now_s: float) -> int:
        """What may be given of it: without what was given before and has not been told as used."""
        c = set_aside.c
        others = select(func.coalesce(func.sum(c.tokens), 0)).where(
            c.client == asked.client, c.gateway != asked.gateway, c.until_s >= now_s
        )
        return max(0, left - asked.set_aside - int(await self._transaction.connection.scalar(others) or 0))

    async def _set_aside(self, asked: Take, tokens: int, now_s: float) -> None:
        c, connection = set_aside.c, self._transaction.connection
        mine = (c.client == asked.client) & (c.gateway == asked.gateway)
        await connection.execute(delete(set_aside).where(c.client == asked.client, mine | (c.until_s < now_s)))
        if tokens:
            row = {"client": asked.client, "gateway": asked.gateway, "tokens": tokens, "until_s": now_s + SET_ASIDE_S}
            await connection.execute(set_aside.insert(), [row])

    async def _of_minute(self, asked: Take, limits: Limits, budget: int | None, minute: int) -> Taken:
        c, connection = taken.c, self._transaction.connection
        mine = (c.client == asked.client, c.minute == minute)
        row = (await connection.execute(select(c.requests, c.tokens).where(*mine))).first()
        had_requests, had_tokens = (row[0], row[1]) if row is not None else (0, 0)
        requests = _part(asked.requests, limits.requests_per_minute, had_requests)
        tokens = _part(asked.tokens, limits.tokens_per_minute, had_tokens)
        if budget is not None:
            tokens = min(tokens, budget)
        if row is None:
            await connection.execute(delete(taken).where(c.client == asked.client))  # of the minutes before
            new = {"client": asked.client, "minute": minute, "requests": requests, "tokens": tokens}
            await connection.execute(taken.insert(), [new])
        elif requests or tokens:
            sums = {"requests": had_requests + requests, "tokens": had_tokens + tokens}
            await connection.execute(update(taken).where(*mine).values(sums))
        return Taken(
            requests=requests,
            tokens=tokens,
            concurrency=0,
            for_s=0.0,
            requests_left=max(0, (limits.requests_per_minute or 0) - had_requests - requests),
            tokens_left=max(0, (limits.tokens_per_minute or 0) - had_tokens - tokens),
        )

    async def _at_once(self, asked: Take, limit: int | None, now_s: float) -> int:
        """`asked.concurrency` is what it holds altogether, not what comes on top."""
        if limit is None:
            return asked.concurrency
        c, connection = held.c, self._transaction.connection
        await connection.execute(
            delete(held).where(c.client == asked.client, (c.until_s < now_s) | (c.gateway == asked.gateway))
        )
        others = await connection.scalar(
            select(func.coalesce(func.sum(c.concurrency), 0)).where(c.client == asked.client)
        )
        given = max(0, min(asked.concurrency, limit - int(others or 0)))
        if given:
            row = {"client": asked.client, "gateway": asked.gateway, "concurrency": given, "until_s": now_s + HELD_S}
            await connection.execute(held.insert(), [row])
        return given

    async def prune(self) -> None:
        now_s = self._transaction.now.timestamp()
        connection = self._transaction.connection
        await connection.execute(delete(usage_reports).where(usage_reports.c.at_s < now_s - REPORT_S_MAX))
        await connection.execute(delete(usage).where(usage.c.hour_s < now_s - USAGE_S_MAX))


def _part(asked: int, limit: int | None, had: int) -> int:
    return asked if limit is None else max(0, min(asked, limit - had))
