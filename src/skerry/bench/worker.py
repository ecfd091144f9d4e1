"""`python -m skerry.bench.worker NUMBER`: one of several processes that send a run's requests."""

from __future__ import annotations

import sys

from skerry.bench.run import work

if __name__ == "__main__":
    work(int(sys.argv[1]))
