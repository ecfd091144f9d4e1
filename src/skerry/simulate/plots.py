"""Pictures of replays, policies beside each other: allocation, waiting, the queue, and who had how much."""

# pyright: reportUnknownMemberType=false
# matplotlib's own types leave its keyword arguments open.

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from skerry.simulate.metrics import is_large, waits_s
from skerry.simulate.outcome import Outcome
from skerry.simulate.series import Sample
from skerry.simulate.trace import Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS: Final = ("#2667a8", "#d4691e", "#2e8b57", "#9c3d8c", "#a08300", "#5b6770", "#c23b3b", "#3aa6b9")
OTHERS: Final = "#c9ced3"
PROJECTS_MAX: Final = 7
"""In a colour of their own; the rest are one."""
WAIT_LEAST_S: Final = 1.0
"""Less is drawn as so much, for the axis is logarithmic."""
LINEAR_MAX: Final = 200
"""Longer queues are drawn by their magnitude."""
WIDTH_INCHES: Final = 9.0
DPI: Final = 130
UNITS: Final = ((86_400.0, "days"), (3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))
WAIT_TICKS: Final = ((1.0, "≤ 1 s"), (10.0, "10 s"), (60.0, "1 min"), (600.0, "10 min"), (3600.0, "1 h"))
WAIT_TICKS_LONG: Final = ((36_000.0, "10 h"), (259_200.0, "3 d"), (2_592_000.0, "30 d"), (31_536_000.0, "1 y"))


def pictures(trace: Trace, outcomes: Sequence[Outcome]) -> Iterator[tuple[str, Figure]]:
    """(name of its file, picture)."""
    yield "allocation.png", _allocation(trace, outcomes)
    yield "waiting.png", _waiting(trace, outcomes)
    yield "queue.png", _queue(trace, outcomes)
    if len({arrival.work.project for arrival in trace.arrivals}) > 1:
        yield "shares.png", _shares(trace, outcomes)


def _allocation(trace: Trace, outcomes: Sequence[Outcome]) -> Figure:
    of: dict[str, Callable[[Sample], float]] = {
        "CPU": lambda sample: sample.cpu,
        "memory": lambda sample: sample.memory,
        "GPU": lambda sample: sample.gpu,
    }
    whole = outcomes[0].whole
    shown = [name for name, part in zip(of, whole.parts, strict=True) if part]
    figure, rows = _figure(len(shown), 2.1 * len(shown) + 0.9, f"What is allocated · {trace.name}")
    unit_s, unit = _unit(outcomes)
    for name, axes in zip(shown, rows, strict=True):
        for at, outcome in enumerate(outcomes):
            moments = [sample.moment_s / unit_s for sample in outcome.series.samples]
            values = [of[name](sample) * 100 for sample in outcome.series.samples]
            _line(axes, moments, values, at, outcome.name)
        axes.set_ylabel(f"{name}, %")
        axes.set_ylim(0, 104)
        _mark_last_arrival(axes, outcomes, unit_s, named=axes is rows[0])
    _finish(figure, rows, outcomes, unit)
    return figure


def _queue(trace: Trace, outcomes: Sequence[Outcome]) -> Figure:
    figure, rows = _figure(1, 3.6, f"How many wait · {trace.name}")
    unit_s, unit = _unit(outcomes)
    for at, outcome in enumerate(outcomes):
        moments = [sample.moment_s / unit_s for sample in outcome.series.samples]
        _line(rows[0], moments, [sample.waiting for sample in outcome.series.samples], at, outcome.name)
    rows[0].set_ylabel("jobs waiting")
    if max(outcome.waiting_max for outcome in outcomes) > LINEAR_MAX:
        rows[0].set_yscale("symlog", linthresh=10)
    rows[0].set_ylim(bottom=0)
    rows[0].yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    _mark_last_arrival(rows[0], outcomes, unit_s, named=True)
    _finish(figure, rows, outcomes, unit)
    return figure


def _waiting(trace: Trace, outcomes: Sequence[Outcome]) -> Figure:
    figure, columns = _figure(2, 4.0, f"Who waits how long · {trace.name}", across=True)
    large = is_large(trace)
    asked = [np.array([not life.never for life in outcome.lives]) for outcome in outcomes]
    waits = [np.maximum(waits_s(outcome), WAIT_LEAST_S) for outcome in outcomes]
    longest = (float(found[there].max(initial=0)) for found, there in zip(waits, asked, strict=True))
    longest_s = max(WAIT_LEAST_S * 10, *longest)
    for axes, chosen, name in zip(columns, (~large, large), ("the small 99%", "the large 1%"), strict=True):
        for at, outcome in enumerate(outcomes):
            sorted_s = np.sort(waits[at][chosen & asked[at]])
            if len(sorted_s):
                share = np.arange(1, len(sorted_s) + 1) / len(sorted_s) * 100
                _line(axes, [WAIT_LEAST_S, *sorted_s, longest_s * 1.2], [0.0, *share, 100.0], at, outcome.name)
        axes.set_title(name, fontsize=10, loc="left", color="#333333")
        axes.set_xscale("log")
        axes.set_ylim(0, 102)
    columns[0].set_ylabel("% of them started within")
    for axes in columns:
        ticks = [tick for tick in (*WAIT_TICKS, *WAIT_TICKS_LONG) if tick[0] <= longest_s * 1.2]
        axes.set_xticks([at_s for at_s, _ in ticks], [told for _, told in ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlim(WAIT_LEAST_S * 0.8, longest_s * 1.2)
    _finish(figure, columns, outcomes, None)
    return figure


def _shares(trace: Trace, outcomes: Sequence[Outcome]) -> Figure:
    figure, rows = _figure(len(outcomes), 2.2 * len(outcomes) + 0.9, f"Who has how much · {trace.name}")
    unit_s, unit = _unit(outcomes)
    totals: dict[str, float] = {}
    for outcome in outcomes:
        for sample in outcome.series.samples:
            for project, share in sample.projects.items():
                totals[project] = totals.get(project, 0.0) + share
    order = sorted(totals, key=lambda project: (-totals[project], project))
    named, others = order[:PROJECTS_MAX], order[PROJECTS_MAX:]
    for axes, outcome in zip(rows, outcomes, strict=True):
        samples = outcome.series.samples
        layers = [[sample.projects.get(project, 0.0) * 100 for sample in samples] for project in named]
        if others:
            layers.append([100 * sum(sample.projects.get(each, 0.0) for each in others) for sample in samples])
        axes.stackplot(
            [sample.moment_s / unit_s for sample in samples],
            *layers,
            labels=[*named, *([f"{len(others)} others"] if others else [])],
            colors=[*COLOURS[: len(named)], OTHERS],
            linewidth=0,
            step="post",
        )
        axes.set_title(outcome.name, fontsize=10, loc="left", color="#333333")
        axes.set_ylabel("dominant share, %")
        axes.set_ylim(bottom=0)
        _mark_last_arrival(axes, outcomes, unit_s, named=axes is rows[0])
    handles, labels = rows[0].get_legend_handles_labels()
    _finish(figure, rows, (), unit)
    figure.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=9)
    return figure


def _figure(panels: int, height_inches: float, title: str, across: bool = False) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH_INCHES, height_inches), dpi=DPI, layout="constrained")
    figure.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    shape = (1, panels) if across else (panels, 1)
    grid: Any = figure.subplots(*shape, sharex=not across, sharey=across, squeeze=False)
    found: list[Axes] = list(grid.flat)
    for axes in found:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#e3e6e8", linewidth=0.7)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=9, colors="#444444")
    return figure, found


def _line(axes: Axes, across: Sequence[float], up: Sequence[float], at: int, name: str) -> None:
    axes.plot(
        across, up, drawstyle="steps-post", color=COLOURS[at % len(COLOURS)], linewidth=1.4, label=name, alpha=0.9
    )


def _mark_last_arrival(axes: Axes, outcomes: Sequence[Outcome], unit_s: float, named: bool) -> None:
    moment_s = outcomes[0].last_arrival_s
    if not moment_s or moment_s >= max(outcome.end_s for outcome in outcomes):
        return
    axes.axvline(moment_s / unit_s, color="#888888", linewidth=0.9, linestyle=(0, (4, 3)))
    if named:
        place = (moment_s / unit_s, 1.0)
        axes.annotate(
            "last arrival",
            place,
            xycoords=("data", "axes fraction"),
            xytext=(4, -10),
            textcoords="offset points",
            fontsize=8,
            color="#666666",
        )


def _finish(figure: Figure, rows: Sequence[Axes], outcomes: Sequence[Outcome], unit: str | None) -> None:
    if unit is not None:
        rows[-1].set_xlabel(unit, fontsize=9, color="#444444")
        rows[-1].set_xlim(left=0)
    if len(outcomes) > 1:
        handles, labels = rows[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower left", ncols=4, frameon=False, fontsize=9)


def _unit(outcomes: Sequence[Outcome]) -> tuple[float, str]:
    end_s = max(outcome.end_s for outcome in outcomes)
    return next(((unit_s, name) for unit_s, name in UNITS if end_s >= 3 * unit_s), UNITS[-1])
