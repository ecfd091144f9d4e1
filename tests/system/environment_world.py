"""A folder with a skerry.yaml, and `skerry` called in it as a user would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.server import Server

CALL_S_MAX = 110.0


class Folder:
    def __init__(self, path: Path, server: Server) -> None:
        self.path = path
        self.server = server
        path.mkdir(parents=True, exist_ok=True)
        self.environ = {
            **{name: value for name, value in os.environ.items() if not name.startswith("SKERRY_")},
            "HOME": str(path.parent / "home"),
            "SKERRY_ADDRESS": server.address,
            "SKERRY_KEY": server.key,
            "SKERRY_DATA_DIR": str(server.settings.data_dir),
            "SKERRY_RUN_DIR": str(server.settings.run_path),
        }
        (path.parent / "home").mkdir(exist_ok=True)

    def write(self, text: str, name: str = "skerry.yaml") -> None:
        (self.path / name).write_text(text)

    def skerry(self, *words: str, code: int = 0, stdin: str | None = None) -> str:
        """What it printed; on stderr too where it failed as was expected."""
        ran = subprocess.run(
            [str(Path(sys.executable).with_name("skerry")), *words],
            cwd=self.path,
            env=self.environ,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=CALL_S_MAX,
        )
        assert ran.returncode == code, f"skerry {' '.join(words)} ended with {ran.returncode}: {ran.stdout}{ran.stderr}"
        return ran.stdout + ran.stderr if code else ran.stdout

    def json(self, *words: str) -> Any:
        return json.loads(self.skerry(*words, "--json"))

    def actions(self) -> dict[str, str]:
        """What a plan would do, of what is not to be kept."""
        return {step["key"]: step["action"] for step in self.json("plan") if step["action"] != "keep"}

    def states(self) -> dict[str, str]:
        return {item["key"]: item["state"] for item in self.json("status")}

    def killed(self, after_s: float, *words: str) -> None:
        """`skerry` killed in the middle."""
        with subprocess.Popen(
            [str(Path(sys.executable).with_name("skerry")), *words],
            cwd=self.path,
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as running:
            time.sleep(after_s)
            running.send_signal(signal.SIGKILL)
