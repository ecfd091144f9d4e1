"""The last word of one machine about each of its sandboxes, as its report stream told it. Levels, not edges."""

from __future__ import annotations

from skerry.model.order import Presence, Report


class ReportBook:
    def __init__(self) -> None:
        self.node: str | None = None
        """Id of the node; None until its agent was heard once."""
        self.heard = False
        """Whether the stream is up: an old book tells nothing."""
        self._reports: dict[str, Report] = {}

    def begin(self, node: str, reports: list[Report]) -> None:
        self.node = node
        self._reports = {report.sandbox_id: report for report in reports}
        self.heard = True

    def put(self, report: Report) -> None:
        if report.presence is Presence.ABSENT:
            self._reports.pop(report.sandbox_id, None)
        else:
            self._reports[report.sandbox_id] = report

    def end(self) -> None:
        self.heard = False

    def get(self, sandbox_id: str) -> Report | None:
        return self._reports.get(sandbox_id)

    def all(self) -> list[Report]:
        return list(self._reports.values())
