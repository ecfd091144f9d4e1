"""How the carrying out of a plan is shown: a live block on a terminal, a line at each change otherwise."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence

from skerry.cli.output import Output, is_terminal, plain, printed
from skerry.environment.apply import Phase, Progress, title
from skerry.environment.kinds.contract import Action

FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
FRAME_S = 0.1
_COLOURS = {
    Phase.DONE: "green",
    Phase.FAILED: "red",
    Phase.SKIPPED: "red",
    Phase.WORKING: "yellow",
    Phase.WAITING: "grey",
}
_SIGNS = {Phase.DONE: "✔", Phase.FAILED: "✘", Phase.SKIPPED: "✘", Phase.WAITING: "·"}


class UpView:
    """Told of every change from any thread; draws on stderr, so that what a program reads stays clean."""

    def __init__(self, output: Output, environ: Mapping[str, str]) -> None:
        self._output = output
        self._silent = output.quiet or output.json
        self._live = is_terminal(sys.stderr) and environ.get("TERM") != "dumb" and not self._silent
        self._lock = threading.Lock()
        self._shown: dict[tuple[str, str], Progress] = {}
        self._said: dict[tuple[str, str], str] = {}
        self._drawn = 0
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> UpView:
        if self._live:
            self._thread = threading.Thread(target=self._animate, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join()
            with self._lock:
                self._draw(last=True)

    def tell(self, one: Progress) -> None:
        if self._silent:
            return
        with self._lock:
            self._shown[one.step.ref] = one
            if not self._live:
                self._line(one)

    def output_line(self, member: str, text: str) -> None:
        """What a step prints, under the name of its sandbox."""
        if self._silent:
            return
        with self._lock:
            self._erase()
            sys.stderr.write(f"{self._paint(f'{member} |', 'blue')} {printed(text)}\n")
            self._draw()

    def interrupted(self) -> None:
        with self._lock:
            self._erase()
            self._silent = True  # threads that are still at work tell nobody any more
            self._output.note("interrupted; `skerry up` goes on where it stopped")
            self._draw()

    def _line(self, one: Progress) -> None:
        if one.step.action is Action.KEEP and one.phase is not Phase.FAILED and one.now in ("looks", "unchanged"):
            return
        text = f"{title(one.step)}: {one.now}"
        if one.phase is Phase.DONE:
            text += f" ({one.ended_s - one.began_s:.1f}s)"
        if self._said.get(one.step.ref) != text:
            self._said[one.step.ref] = text
            sys.stderr.write(plain(text) + "\n")

    def _animate(self) -> None:
        while not self._over.wait(FRAME_S):
            with self._lock:
                self._erase()
                self._draw()

    def _erase(self) -> None:
        if self._live and self._drawn:
            sys.stderr.write(f"\x1b[{self._drawn}A\x1b[J")
            self._drawn = 0

    def _draw(self, *, last: bool = False) -> None:
        """`last`: what stays on the screen, of all of them. Until then it is drawn over, which is only possible with
        what the screen holds: rows that are at work come first, and none goes over its end."""
        if not self._live:
            return
        self._erase()
        size = _size()
        now_s = time.monotonic()
        rows = [
            one for one in self._shown.values() if one.step.action is not Action.KEEP or one.phase is not Phase.DONE
        ]
        shown = rows if last else fitting(rows, size.lines - 1)
        width = max((len(title(one.step)) for one in shown), default=0)
        for one in shown:
            sign = _SIGNS.get(one.phase) or FRAMES[int(now_s / FRAME_S) % len(FRAMES)]
            took_s = (one.ended_s or now_s) - one.began_s if one.began_s else 0.0
            took = f"  {took_s:.1f}s" if took_s else ""
            text = row(plain(title(one.step)), plain(one.now), took, key_width=width, width=size.columns - 4)
            sys.stderr.write(f" {self._paint(sign, _COLOURS[one.phase])} {text}\n")
        if len(shown) < len(rows):
            sys.stderr.write(f"   … {_rest(rows, shown)}"[: size.columns - 1] + "\n")
        sys.stderr.flush()
        self._drawn = len(shown) + (len(shown) < len(rows))

    def _paint(self, text: str, colour: str) -> str:
        return self._output.paint(text, colour) if self._live else text


def fitting(rows: Sequence[Progress], lines: int) -> list[Progress]:
    """Those that are shown where not all have room, in their order; a line is left to say how many are not."""
    if len(rows) <= lines:
        return list(rows)
    by_need = sorted(range(len(rows)), key=lambda at: _NEED.index(rows[at].phase))
    return [rows[at] for at in sorted(by_need[: max(lines - 1, 1)])]


_NEED = [Phase.FAILED, Phase.WORKING, Phase.SKIPPED, Phase.WAITING, Phase.DONE]


def row(key: str, now: str, took: str, *, key_width: int, width: int) -> str:
    """In one line of `width`: the time stays to be seen, what it is at is cut."""
    left = f"{key:<{key_width}}  {now}"
    room = max(width - len(took), 0)
    return (left if len(left) <= room else f"{left[: max(room - 1, 0)]}…") + took


def _rest(rows: Sequence[Progress], shown: Sequence[Progress]) -> str:
    counts = Counter(one.phase for one in rows)
    counts.subtract(one.phase for one in shown)
    return "and " + ", ".join(f"{counts[phase]} {phase.value}" for phase in Phase if counts[phase])


def _size() -> os.terminal_size:
    try:
        size = os.get_terminal_size(sys.stderr.fileno())
    except OSError:
        size = os.terminal_size((0, 0))
    return os.terminal_size((size.columns or 80, size.lines or 24))
