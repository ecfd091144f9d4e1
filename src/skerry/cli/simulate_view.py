"""What `skerry simulate` shows and writes: a bar while it goes on, a table at the end, a folder with all of it."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from skerry.cli.invocation import Invocation
from skerry.cli.output import Output
from skerry.cli.progress import wants_bars
from skerry.errors import Invalid
from skerry.simulate import report
from skerry.simulate.metrics import Figures
from skerry.simulate.outcome import Outcome
from skerry.simulate.trace import Trace, demand

if TYPE_CHECKING:
    from rich.progress import Progress

REPORT, TABLE, JOBS = "report.json", "report.txt", "jobs.csv"
NO_PICTURES = "no pictures, since matplotlib is not here; `pip install 'skerry[plots]'` brings it"

Show = Callable[[str, Iterator[float]], None]
"""(name of a run, how much of it is done from time to time): goes through it to its end."""


@contextmanager
def bar(invocation: Invocation) -> Generator[Show]:
    if not wants_bars(invocation) or invocation.output.quiet or invocation.output.json:
        yield lambda _, done: _go_through(done)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    console = Console(stderr=True, no_color=bool(invocation.environ.get("NO_COLOR")))
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        yield lambda name, done: _drawn(bars, name, done)


def _go_through(done: Iterator[float]) -> None:
    for _ in done:
        pass


def _drawn(bars: Progress, name: str, done: Iterator[float]) -> None:
    task = bars.add_task(name, total=1.0)
    for share in done:
        bars.update(task, completed=share)
    bars.update(task, completed=1.0)


def tell(output: Output, trace: Trace, runs: Sequence[Figures], seed: int) -> None:
    if output.json:
        output.emit(report.document(trace, runs, seed))
    elif not output.quiet:
        output.line(report.title(trace))
        output.table(*report.table(runs))


def target(path: str) -> Path:
    """The folder to write into. Looked at before anything is done, for a replay may take long."""
    folder = Path(path)
    if folder.exists() and not folder.is_dir():
        raise Invalid(f"--out: {path} is a file; give a folder", field="out")
    if not folder.absolute().parent.is_dir():
        raise Invalid(f"--out: there is no folder {folder.absolute().parent} to make {folder.name} in", field="out")
    return folder


def write(
    invocation: Invocation,
    folder: Path,
    trace: Trace,
    runs: Sequence[Figures],
    outcomes: Sequence[Outcome],
    seed: int,
) -> None:
    text = io.StringIO()
    plain = Output({}, text)
    plain.line(report.title(trace))
    plain.table(*report.table(runs))
    with _whole(folder) as draft:
        (draft / REPORT).write_text(json.dumps(report.document(trace, runs, seed), indent=2) + "\n")
        (draft / TABLE).write_text(text.getvalue())
        _write_jobs(draft / JOBS, outcomes)
        try:
            _draw(draft, trace, outcomes)
        except ImportError:
            invocation.output.note(NO_PICTURES)
        written = sorted(path.name for path in draft.iterdir())
    invocation.output.note(f"{folder}: {', '.join(written)}")


def _draw(draft: Path, trace: Trace, outcomes: Sequence[Outcome]) -> None:
    from skerry.simulate.plots import pictures

    for name, picture in pictures(trace, outcomes):
        picture.savefig(draft / name)  # pyright: ignore[reportUnknownMemberType]


def _write_jobs(path: Path, outcomes: Sequence[Outcome]) -> None:
    """A row for each job of each run: seconds from the first arrival; empty: it never came to that."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(
            ["run", "job", "project", "tier", "size", "arrives_s", "starts_s", "last_starts_s", "ends_s", "preempted"]
        )
        for outcome in outcomes:
            for life in outcome.lives:
                work = life.arrival.work
                share = demand(work).share_of(outcome.whole)
                moments = (work.submitted_s, life.first_start_s, life.last_start_s, life.end_s)
                rows.writerow(
                    [
                        outcome.name,
                        work.id,
                        work.project,
                        work.tier.value,
                        f"{share:.6g}",
                        *("" if moment is None else f"{moment:.3f}" for moment in moments),
                        life.evictions,
                    ]
                )


@contextmanager
def _whole(folder: Path) -> Generator[Path]:
    """A folder to write in, whose files appear in the one that is meant only when all of them are there."""
    draft = folder.absolute().parent / f".{folder.absolute().name}.{os.getpid()}.part"
    try:
        draft.mkdir()
        yield draft
        folder.mkdir(exist_ok=True)
        for path in draft.iterdir():
            os.replace(path, folder / path.name)
    except OSError as error:
        raise Invalid(f"cannot write {folder}: {(error.strerror or str(error)).lower()}", field="out") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
