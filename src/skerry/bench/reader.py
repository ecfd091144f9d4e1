"""`python -m skerry.bench.reader`: reads plans for a process that is not to hold what reads them."""

from __future__ import annotations

from skerry.bench.reading import answer

if __name__ == "__main__":
    answer()
