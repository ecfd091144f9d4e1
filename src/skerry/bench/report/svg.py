"""Plots as SVG, in as few words as they need: lines or dots on one pair of axes.

Colours are classes, so that the page decides what they are in light and in dark.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape

import numpy as np

from skerry.bench.frame import Floats

WIDTH, HEIGHT = 520, 300
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 34, 44
POINTS_MAX = 400
COLOURS = 8
NAME_CHARACTERS_MAX = 36
CHARACTER, LINE = 5.6, 13
"""Of the legend: text is not measured here, so a little more than most letters take."""
LOG_FROM = 20.0
"""An axis whose ends are further apart than this is logarithmic, where it may be: below, a line tells more."""


@dataclass(frozen=True)
class Series:
    name: str
    x: Floats
    y: Floats
    dots: bool = False
    """Each point by itself."""
    marks: bool = False
    """Its points are shown."""
    line: bool = True
    """And joined."""
    labels: Sequence[str] = ()
    """Of its points."""


@dataclass(frozen=True)
class Axis:
    label: str
    least: float
    most: float
    log: bool = False

    def at(self, values: Floats) -> Floats:
        """From 0 to 1."""
        if self.log:
            low, high = math.log10(self.least), math.log10(self.most)
            return (np.log10(np.maximum(values, self.least)) - low) / (high - low or 1.0)
        return (values - self.least) / (self.most - self.least or 1.0)

    def ticks(self) -> list[float]:
        if self.log:
            low, high = math.floor(math.log10(self.least)), math.ceil(math.log10(self.most))
            several = (1.0, 2.0, 5.0) if high - low <= 3 else (1.0,)
            every = [base * 10.0**power for power in range(low, high + 1) for base in several]
            return [each for each in every if self.least <= each <= self.most]
        step = 10.0 ** math.floor(math.log10((self.most - self.least) / 4 or 1.0))
        step *= next(each for each in (1, 2, 5, 10) if (self.most - self.least) / (step * each) <= 6)
        return [step * at for at in range(math.ceil(self.least / step), math.floor(self.most / step) + 1)]


def plot(title: str, x_label: str, y_label: str, series: Sequence[Series], *, log_x: bool = False) -> str:
    """Nothing where there is nothing to show. Each series keeps its colour where one before it is empty. `log_x`: the
    axis need not begin at nothing, and is logarithmic where its ends are far apart."""
    shown = [(at, _thin(each)) for at, each in enumerate(series) if each.x.size]
    if not shown:
        return ""
    xs, ys = np.concatenate([each.x for _, each in shown]), np.concatenate([each.y for _, each in shown])
    x = _x_axis(x_label, xs, log_x)
    room = 1.12 if any(each.labels for _, each in shown) else 1.03
    y = Axis(y_label, min(0.0, float(ys.min())), max(float(ys.max()) * room, 1e-9))
    legend, rows = _legend(shown)
    box = Box(TOP + LINE * max(0, rows - 1))
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {box.height}" role="img" aria-label="{escape(title)}">',
        f'<text x="{LEFT}" y="16" class="title">{escape(title)}</text>',
        *_axes(x, y, box),
        *(_drawn(each, x, y, box, at % COLOURS) for at, each in shown),
        *legend,
        "</svg>",
    ]
    return "\n".join(parts)


def _x_axis(label: str, xs: Floats, log: bool) -> Axis:
    most = float(xs.max())
    if not log:
        least = min(0.0, float(xs.min()))
        return Axis(label, least, max(most, least + 1e-9))
    least = float(xs[xs > 0].min()) if (xs > 0).any() else 1.0
    return Axis(label, least, max(most, least * 1.01), most / least > LOG_FROM)


@dataclass(frozen=True)
class Box:
    """Where the axes are."""

    top: int

    @property
    def bottom(self) -> int:
        return self.top + HEIGHT - TOP - BOTTOM

    @property
    def height(self) -> int:
        return self.bottom + BOTTOM

    def up(self, shares: Floats) -> Floats:
        return self.bottom - shares * (self.bottom - self.top)


def _thin(series: Series) -> Series:
    if series.x.size <= POINTS_MAX * (4 if series.dots else 1):
        return series
    picks = np.unique(np.linspace(0, series.x.size - 1, POINTS_MAX * (4 if series.dots else 1)).astype(int))
    return replace(series, x=series.x[picks], y=series.y[picks])


def _across(shares: Floats) -> Floats:
    return LEFT + shares * (WIDTH - LEFT - RIGHT)


def _axes(x: Axis, y: Axis, box: Box) -> list[str]:
    right = WIDTH - RIGHT
    found: list[str] = []
    for value, at in zip(y.ticks(), box.up(y.at(np.array(y.ticks()))).tolist(), strict=True):
        found.append(f'<line x1="{LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}" class="grid"/>')
        found.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" class="tick" text-anchor="end">{_tick(value)}</text>')
    for value, at in zip(x.ticks(), _across(x.at(np.array(x.ticks()))).tolist(), strict=True):
        found.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{box.top}" y2="{box.bottom}" class="grid"/>')
        where = f'x="{at:.1f}" y="{box.bottom + 15}" text-anchor="{"end" if at > right - 12 else "middle"}"'
        found.append(f'<text {where} class="tick">{_tick(value)}</text>')
    middle = (LEFT + right) / 2
    where = f'x="{middle}" y="{box.height - 8}" text-anchor="middle"'
    found.append(f'<text {where} class="label">{escape(x.label)}</text>')
    up = (box.top + box.bottom) / 2
    turned = f'transform="rotate(-90 13 {up})"'
    found.append(f'<text x="13" y="{up}" class="label" text-anchor="middle" {turned}>{escape(y.label)}</text>')
    return found


def _tick(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def _drawn(series: Series, x: Axis, y: Axis, box: Box, colour: int) -> str:
    points = list(zip(_across(x.at(series.x)).tolist(), box.up(y.at(series.y)).tolist(), strict=True))
    dots = "".join(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="{1.4 if series.dots else 3}"/>' for a, b in points)
    if series.dots:
        return f'<g class="dots c{colour}">{dots}</g>'
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    drawn = f'<polyline points="{line}" class="line c{colour}"/>' if series.line else ""
    drawn += f'<g class="marks c{colour}">{dots}</g>' if series.marks else ""
    return drawn + "".join(_labels(points, series.labels, box))


def _labels(points: Sequence[tuple[float, float]], texts: Sequence[str], box: Box) -> Iterator[str]:
    """Beside its point where there is room for it; that which finds none is left out."""
    taken: list[tuple[float, float, float]] = []
    for (across, up), text in zip(points, map(_short, texts), strict=False):
        wide = CHARACTER * len(text)
        places = [(left, base) for base in (up - 5, up + 14) for left in (across + 6, across - 6 - wide)]
        for left, base in places:
            inside = left >= LEFT and left + wide <= WIDTH and base <= box.bottom
            clear = all(left >= end or left + wide <= begin or abs(base - at) >= LINE for begin, end, at in taken)
            if inside and clear:
                taken.append((left, left + wide, base))
                yield f'<text x="{left:.1f}" y="{base:.1f}" class="point">{escape(text)}</text>'
                break


def _short(name: str) -> str:
    return name if len(name) <= NAME_CHARACTERS_MAX else f"{name[: NAME_CHARACTERS_MAX - 1]}…"


def _legend(series: Sequence[tuple[int, Series]]) -> tuple[list[str], int]:
    """And how many lines it takes."""
    if len(series) == 1 and not series[0][1].name:
        return [], 0
    found: list[str] = []
    across, row = float(LEFT), 0
    for at, each in series:
        text = _short(each.name)
        wide = 24 + CHARACTER * len(text)
        if across > LEFT and across + wide > WIDTH:
            across, row = float(LEFT), row + 1
        down = 22 + LINE * row
        found.append(f'<rect x="{across:.0f}" y="{down}" width="9" height="4" class="marks c{at % COLOURS}"/>')
        name = f"<title>{escape(each.name)}</title>{escape(text)}"
        found.append(f'<text x="{across + 12:.0f}" y="{down + 6}" class="tick">{name}</text>')
        across += wide
    return found, row + 1
