"""Losses as a picture: a line for each attempt, and where it went on. SVG by hand: nothing need be installed for it."""

from __future__ import annotations

import csv
from pathlib import Path

WIDTH, HEIGHT, LEFT, TOP, RIGHT, BOTTOM = 800, 450, 70, 50, 30, 60
COLOURS = ("#1f6fb2", "#d1495b", "#3a8f5c", "#8a5fbf")


def draw(losses: Path, picture: Path) -> None:
    """From lines of `attempt,step,loss`."""
    attempts: dict[int, list[tuple[int, float]]] = {}
    with losses.open() as file:
        for attempt, step, loss in csv.reader(file):
            attempts.setdefault(int(attempt), []).append((int(step), float(loss)))
    steps_max = max(step for points in attempts.values() for step, _ in points)
    loss_max = max(loss for points in attempts.values() for _, loss in points) * 1.05

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * step / steps_max

    def y(loss: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - loss / loss_max)

    def text(at_x: float, at_y: float, words: str, more: str = "") -> str:
        return f'<text x="{at_x:.1f}" y="{at_y:.1f}" {more}>{words}</text>'

    def line(x1: float, y1: float, x2: float, y2: float, more: str) -> str:
        return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {more}/>'

    parts = [text(WIDTH / 2, 28, "Loss of a small GPT that learns to sort", 'text-anchor="middle" font-size="18"')]
    for part in range(5):
        loss, step = loss_max * part / 4, steps_max * part // 4
        parts.append(line(LEFT, y(loss), WIDTH - RIGHT, y(loss), 'stroke="#ddd"'))
        parts.append(text(LEFT - 8, y(loss) + 5, f"{loss:.2f}", 'text-anchor="end"'))
        parts.append(text(x(step), HEIGHT - BOTTOM + 22, str(step), 'text-anchor="middle"'))
    parts.append(text(WIDTH / 2, HEIGHT - 14, "step", 'text-anchor="middle"'))
    for row, (attempt, points) in enumerate(sorted(attempts.items())):
        colour, first = COLOURS[attempt % len(COLOURS)], points[0][0]
        path = " ".join(f"{x(step):.1f},{y(loss):.1f}" for step, loss in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if row > 0:
            parts.append(line(x(first), TOP, x(first), HEIGHT - BOTTOM, f'stroke="{colour}" stroke-dasharray="5 4"'))
        words = f"attempt {attempt}: steps {first} to {points[-1][0]}"
        parts.append(text(WIDTH - RIGHT - 10, TOP + 20 + 22 * row, words, f'text-anchor="end" fill="{colour}"'))
    body = "\n".join(parts)
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    draft = picture.with_suffix(".part")
    draft.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="14" fill="#222">\n'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>\n{body}\n</svg>\n'
    )
    draft.rename(picture)
