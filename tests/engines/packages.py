"""Large Python packages that some tests need, and that no other part of the project should have to install."""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
from pathlib import Path

from tests.server import CACHE


def folder_of(*requirements: str) -> Path:
    """Where they are installed, which is done once for a machine; beside, not into, the project's own environment."""
    mark = hashlib.sha256(" ".join((sys.version, *requirements)).encode()).hexdigest()[:12]
    folder = CACHE / f"packages-{mark}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"packages-{mark}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder / "done"
        if not done.exists():
            command = [sys.executable, "-m", "pip", "install", "-q", "--no-compile", "--upgrade", "--target"]
            subprocess.run([*command, str(folder), *requirements], check=True, timeout=900)
            done.touch()
    return folder
