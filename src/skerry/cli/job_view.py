"""How a job that goes is shown: a live block on a terminal (rich, imported only then), or a line at each change."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from skerry.cli.output import Output, human_duration, is_terminal, part, parts, printed

LOG_LINES = 8
REFRESHES_PER_S = 4
COLOURS = {"succeeded": "green", "failed": "red", "cancelled": "bright_black", "running": "yellow", "pending": "white"}


@dataclass(frozen=True)
class Seen:
    """One look at a job."""

    job: Any
    running: list[Any]
    """The first tasks that run."""
    why: Any
    """What keeps it waiting, as the scheduler has it."""
    nodes: Mapping[str, str] = field(default_factory=dict[str, str])
    """What they are called, by their ids."""


class JobView:
    """Told of what is seen and of what is printed, from two threads. Draws on stderr, as `up` does."""

    def __init__(self, output: Output, environ: Mapping[str, str]) -> None:
        self._output = output
        self._live_wanted = is_terminal(sys.stderr) and environ.get("TERM") != "dumb"
        self._live_wanted = self._live_wanted and not (output.json or output.quiet)
        self._no_color = bool(environ.get("NO_COLOR"))
        self._lock = threading.Lock()
        self._live: Any = None
        self._seen: Seen | None = None
        self._log: deque[str] = deque(maxlen=LOG_LINES)
        self._said = ""

    @property
    def name(self) -> str:
        return self._seen.job["name"] if self._seen else ""

    def __enter__(self) -> JobView:
        if self._live_wanted:
            from rich.console import Console
            from rich.live import Live

            console = Console(stderr=True, no_color=self._no_color)
            self._live = Live(
                console=console, get_renderable=self._drawn, refresh_per_second=REFRESHES_PER_S, transient=False
            )
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def see(self, seen: Seen) -> None:
        with self._lock:
            self._seen = seen
            if self._live is None:
                self._tell(seen)

    def printed(self, index: int, line: str) -> None:
        with self._lock:
            self._log.append(printed(line))
            if self._live is None and not self._output.json and not self._output.quiet:
                sys.stderr.write(f"{index} | {printed(line)}\n")
                sys.stderr.flush()

    def _tell(self, seen: Seen) -> None:
        text = line(seen)
        if text == self._said:
            return
        self._said = text
        if self._output.json:
            self._output.emit_line(seen.job)
        else:
            self._output.note(text)

    def _drawn(self) -> Any:
        from rich.console import Group
        from rich.text import Text

        with self._lock:
            if self._seen is None:
                return Text("")
            return Group(*block(self._seen, list(self._log), datetime.now(UTC), self._live.console.width))


def line(seen: Seen) -> str:
    """`train: running, 3 of 10 tasks done, 2 running`"""
    job, progress = seen.job, part(seen.job, "progress")
    text = f"{job['name']}: {job['state']}"
    if progress.get("total", 1) > 1:
        done = progress["succeeded"] + progress["failed"] + progress["cancelled"]
        text += f", {done} of {progress['total']} tasks done, {progress['running']} running"
        text += f", {progress['failed']} failed" if progress["failed"] else ""
    why = reason(seen)
    return f"{text}: {why}" if why else text


def reason(seen: Seen) -> str:
    """Why it waits, or how it ended."""
    if seen.why:
        place = f"place {seen.why['position']} in queue {seen.job['spec']['queue']}" if seen.why.get("position") else ""
        starts = f"expected to start {_clock(seen.why['starts_at'])}" if seen.why.get("starts_at") else ""
        return "; ".join(part for part in (seen.why.get("say"), place, starts) if part)
    return seen.job.get("reason") or ""


def block(seen: Seen, log: list[str], now: datetime, width: int = 80) -> list[Any]:
    """Rows of the live view, on a terminal of so many characters."""
    from rich.text import Text

    job, progress = seen.job, part(seen.job, "progress")
    took = _since(job.get("started_at") or job["created_at"], now, job.get("ended_at"))
    colour = COLOURS.get(job["state"], "yellow")
    rows = [Text.assemble((job["name"], "bold"), "  ", (job["state"], colour), f"  {took}{left(job, now)}")]
    if progress.get("total", 1) > 1:
        rows.append(bar(progress, width))
    if why := reason(seen):
        rows.append(Text(printed(why), style="bright_black"))
    digits = max((len(str(task["index"])) for task in seen.running), default=0)
    for task in seen.running:
        there = dict.fromkeys(member["node"] for member in parts(task, "members") if member.get("node"))
        nodes = ", ".join(seen.nodes.get(node, node) for node in there)
        tried = f"  try {task['attempt'] + 1}" if task["attempt"] else ""
        text = f"  {task['index']:>{digits}}  {nodes or '-'}  {_since(task.get('started_at'), now)}{tried}"
        rows.append(Text(text, no_wrap=True, overflow="ellipsis"))
    if more := progress.get("running", 0) - len(seen.running):
        rows.append(Text(f"  … and {more} more run", style="bright_black") if more > 0 else Text(""))
    rows += [Text(f"│ {one}", style="bright_black", no_wrap=True, overflow="ellipsis") for one in log]
    return rows


BAR_CELLS = 40
BAR_CELLS_MIN = 10


def bar(progress: Mapping[str, int], width: int = 80) -> Any:
    """A part for each state, and the counts behind it or, where there is no room, below."""
    from rich.text import Text

    total = max(progress["total"], 1)
    counts = ", ".join(f"{progress[state]} {state}" for state in COLOURS if progress[state])
    behind = f"  {counts} of {progress['total']}"
    room = min(BAR_CELLS, width - len(behind))
    if room < BAR_CELLS_MIN:
        room, behind = min(BAR_CELLS, width), f"\n{behind}"
    text, drawn, so_far = Text(), 0, 0
    for state in ("succeeded", "failed", "cancelled", "running"):
        so_far += progress[state]
        cells = round(room * so_far / total) - drawn
        text.append("█" * cells, style=COLOURS[state])
        drawn += cells
    text.append("░" * (room - drawn), style="bright_black")
    return text.append(behind)


def left(job: Any, now: datetime) -> str:
    """A guess by what is done so far, where that says anything."""
    progress = part(job, "progress")
    done = progress.get("succeeded", 0) + progress.get("failed", 0)
    if job["state"] != "running" or not done or not job.get("started_at") or done >= progress["total"]:
        return ""
    passed_s = (now - datetime.fromisoformat(job["started_at"])).total_seconds()
    return f", about {human_duration(passed_s * (progress['total'] - done) / done)} left"


def _since(moment: str | None, now: datetime, until: str | None = None) -> str:
    if not moment:
        return "-"
    end = datetime.fromisoformat(until) if until else now
    return human_duration(max(0.0, (end - datetime.fromisoformat(moment)).total_seconds()))


def _clock(moment: str) -> str:
    return f"at {datetime.fromisoformat(moment).astimezone().strftime('%H:%M')}"
