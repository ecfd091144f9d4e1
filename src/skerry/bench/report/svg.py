"""Plots as SVG, in as few words as they need: lines or dots on one pair of axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from skerry.bench.frame import Floats
from skerry.bench.report.words import number

WIDTH, HEIGHT = 520, 300
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 34, 44
POINTS_MAX = 400
COLOURS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2", "#be185d", "#4d7c0f")


@dataclass(frozen=True)
class Series:
    name: str
    x: Floats
    y: Floats
    dots: bool = False
    """Each point by itself."""
    marks: bool = False
    """A line with its points shown."""


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
            several = (1.0, 2.0, 5.0) if high - low <= 2 else (1.0,)
            every = [base * 10.0**power for power in range(low, high + 1) for base in several]
            return [each for each in every if self.least <= each <= self.most]
        step = 10.0 ** math.floor(math.log10((self.most - self.least) / 4 or 1.0))
        step *= next(each for each in (1, 2, 5, 10) if (self.most - self.least) / (step * each) <= 6)
        return [step * at for at in range(math.ceil(self.least / step), math.floor(self.most / step) + 1)]


def plot(title: str, x_label: str, y_label: str, series: Sequence[Series], *, log_x: bool = False) -> str:
    """Nothing where there is nothing to show."""
    series = [_thin(each) for each in series if each.x.size]
    if not series:
        return ""
    xs, ys = np.concatenate([each.x for each in series]), np.concatenate([each.y for each in series])
    log_x = log_x and bool((xs > 0).any())
    least = float(xs[xs > 0].min()) if log_x else min(0.0, float(xs.min()))
    x = Axis(x_label, least, max(float(xs.max()), least * 1.01, 1e-9), log_x)
    y = Axis(y_label, min(0.0, float(ys.min())), max(float(ys.max()) * 1.03, 1e-9))
    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">',
        f'<text x="{LEFT}" y="16" class="title">{escape(title)}</text>',
        *_axes(x, y),
        *(_drawn(each, x, y, COLOURS[at % len(COLOURS)]) for at, each in enumerate(series)),
        *_legend(series),
        "</svg>",
    ]
    return "\n".join(parts)


def _thin(series: Series) -> Series:
    if series.x.size <= POINTS_MAX * (4 if series.dots else 1):
        return series
    picks = np.unique(np.linspace(0, series.x.size - 1, POINTS_MAX * (4 if series.dots else 1)).astype(int))
    return Series(series.name, series.x[picks], series.y[picks], series.dots, series.marks)


def _across(shares: Floats) -> Floats:
    return LEFT + shares * (WIDTH - LEFT - RIGHT)


def _up(shares: Floats) -> Floats:
    return HEIGHT - BOTTOM - shares * (HEIGHT - TOP - BOTTOM)


def _axes(x: Axis, y: Axis) -> list[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    found: list[str] = []
    for value, at in zip(y.ticks(), _up(y.at(np.array(y.ticks()))).tolist(), strict=True):
        found.append(f'<line x1="{LEFT}" x2="{right}" y1="{at:.1f}" y2="{at:.1f}" class="grid"/>')
        found.append(f'<text x="{LEFT - 6}" y="{at + 4:.1f}" class="tick" text-anchor="end">{number(value)}</text>')
    for value, at in zip(x.ticks(), _across(x.at(np.array(x.ticks()))).tolist(), strict=True):
        found.append(f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{bottom}" class="grid"/>')
        found.append(f'<text x="{at:.1f}" y="{bottom + 15}" class="tick" text-anchor="middle">{number(value)}</text>')
    middle = (LEFT + right) / 2
    found.append(f'<text x="{middle}" y="{HEIGHT - 8}" class="label" text-anchor="middle">{escape(x.label)}</text>')
    up = (TOP + bottom) / 2
    turned = f'transform="rotate(-90 13 {up})"'
    found.append(f'<text x="13" y="{up}" class="label" text-anchor="middle" {turned}>{escape(y.label)}</text>')
    return found


def _drawn(series: Series, x: Axis, y: Axis, colour: str) -> str:
    points = list(zip(_across(x.at(series.x)).tolist(), _up(y.at(series.y)).tolist(), strict=True))
    dots = "".join(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="{1.4 if series.dots else 3}"/>' for a, b in points)
    if series.dots:
        return f'<g fill="{colour}" fill-opacity="0.45">{dots}</g>'
    line = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    drawn = f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.8"/>'
    return drawn + (f'<g fill="{colour}">{dots}</g>' if series.marks else "")


def _legend(series: Sequence[Series]) -> list[str]:
    if len(series) == 1 and not series[0].name:
        return []
    found: list[str] = []
    across = LEFT
    for at, each in enumerate(series):
        colour = COLOURS[at % len(COLOURS)]
        found.append(f'<rect x="{across}" y="22" width="9" height="4" fill="{colour}"/>')
        found.append(f'<text x="{across + 12}" y="28" class="tick">{escape(each.name[:24])}</text>')
        across += 24 + 6 * len(each.name[:24])
    return found
