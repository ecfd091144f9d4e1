"""What gateways told one control program of their traffic, kept for seconds so that the others know it too."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sqlalchemy import delete, select

from skerry.model.traffic import TrafficReport
from skerry.store.service_tables import traffic_reports

if TYPE_CHECKING:
    from skerry.store.transaction import Transaction

KEPT_S = 60.0
"""A control program that could not read for longer has missed something, and cannot have decided anything either."""
_C = traffic_reports.c


class Traffic:
    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def tell(self, control: str, report: TrafficReport) -> None:
        now_s = self._transaction.now.timestamp()
        connection = self._transaction.connection
        row = {"control": control, "at_s": now_s, "body": report.model_dump_json()}
        await connection.execute(traffic_reports.insert(), [row])
        await connection.execute(delete(traffic_reports).where(_C.at_s < now_s - KEPT_S))

    async def of_others(self, control: str, since: datetime) -> list[tuple[int, datetime, TrafficReport]]:
        """(number, when it was told, report), oldest first. Numbers tell one from another and are no order: of two that
        are written at once the later one may be seen first."""
        query = (
            select(_C.sequence, _C.at_s, _C.body)
            .where(_C.control != control, _C.at_s >= since.timestamp())
            .order_by(_C.at_s, _C.sequence)
        )
        rows = (await self._transaction.connection.execute(query)).all()
        return [
            (row[0], datetime.fromtimestamp(row[1], UTC), TrafficReport.model_validate_json(row[2])) for row in rows
        ]
