"""The crun commands we give, and its complaints in our own errors."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

from skerry.errors import Conflict, Failed, Invalid, NoRoom, SkerryError
from skerry.runtime.container.sealed import SealedProgram

VERSION_MIN = (1, 8)
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
LOG_BYTES_MAX = 64 * 1024
NOT_FOUND, NOT_EXECUTABLE = 127, 126
PROBE_WAIT_S = 10.0

_COMMAND_NOT_FOUND = re.compile(r"executable file .* not found|(?:exec|open executable).*: No such file")
# Whatever hinders it from opening a file: for a folder it says "Operation not permitted", and knows many more.
_COMMAND_NOT_EXECUTABLE = re.compile(
    r"open executable.*: |"
    r"(?:exec|execve?).*: (?:Permission denied|Exec format error|Invalid argument|Argument list too long)"
)

_SPEAKS_OF: tuple[tuple[re.Pattern[str], type[SkerryError], str, str | None], ...] = (
    (re.compile(r"chdir|cwd|working directory"), Invalid, "the working directory does not exist there", "workdir"),
    (re.compile(r"No space left|Disk quota exceeded"), NoRoom, "the sandbox's disk is full", None),
    (re.compile(r"does not exist|is not running|status`?: No such file|paused"), Conflict, "it does not run", None),
    (
        re.compile(r"openat2|ensure|Not a directory"),
        Invalid,
        "a link or file in it stands where a mount goes",
        "mounts",
    ),
    (_COMMAND_NOT_FOUND, Invalid, "the command was not found there", "command"),
    (_COMMAND_NOT_EXECUTABLE, Invalid, "the command cannot be executed there", "command"),
)


class Crun:
    """Command lines; whoever needs one runs it by `spawn`."""

    def __init__(self, binary: str, root: Path) -> None:
        """`root` is where crun keeps its state; it belongs to us alone."""
        self._binary = binary
        self._sealed: SealedProgram | None = None
        self.root = root

    def open(self, folder: Path) -> None:
        """From now on start it from memory, by a name in `folder`."""
        self._sealed = SealedProgram.of(Path(self._binary), folder)

    def close(self) -> None:
        if self._sealed is not None:
            self._sealed.close()
            self._sealed = None

    def run(self, sandbox_id: str, *, bundle: Path, pid_file: Path, log: Path) -> list[str]:
        return [*self._start(log), "run", "--detach", f"--bundle={bundle}", f"--pid-file={pid_file}", sandbox_id]

    def exec(
        self, sandbox_id: str, *, process: Path, pid_file: Path, log: Path, console: Path | None = None
    ) -> list[str]:
        # Everything is in the process file: options left out there would not be taken from the main process.
        terminal = [f"--console-socket={console}"] if console is not None else []
        return [*self._start(log), "exec", f"--process={process}", f"--pid-file={pid_file}", *terminal, sandbox_id]

    def _start(self, log: Path) -> list[str]:
        return [
            self._binary if self._sealed is None else str(self._sealed.path),
            f"--root={self.root}",
            "--cgroup-manager=cgroupfs",
            f"--log={log}",
            "--log-format=json",
        ]

    def filter_of(self, sandbox_id: str) -> bytes | None:
        """The system call filter that crun compiled when it started this sandbox."""
        try:
            return (self.root / sandbox_id / "seccomp.bpf").read_bytes() or None
        except FileNotFoundError:
            return None

    def forget(self, sandbox_id: str) -> None:
        """What `crun delete` does once the processes and the control group are gone, without starting a program."""
        shutil.rmtree(self.root / sandbox_id, ignore_errors=True)

    def known(self) -> list[str]:
        try:
            return sorted(entry.name for entry in self.root.iterdir())
        except FileNotFoundError:
            return []


def complaint(log: Path) -> str | None:
    """What crun wrote into its log, if it found fault with anything; the log is removed."""
    try:
        with log.open() as file:
            lines = file.read(LOG_BYTES_MAX).splitlines()
        log.unlink(missing_ok=True)
    except FileNotFoundError:
        return None
    found: list[str] = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if entry.get("level") == "error":
            found.append(str(entry.get("msg", "")).strip())
    return "; ".join(found) or None


def exit_code_of(complaint: str) -> int | None:
    """127 or 126 where crun could not start the command of an exec, as a shell says it; None for other faults."""
    if _COMMAND_NOT_FOUND.search(complaint):
        return NOT_FOUND
    return NOT_EXECUTABLE if _COMMAND_NOT_EXECUTABLE.search(complaint) else None


def error_of(complaint: str | None, *, what: str) -> SkerryError:
    """Our error for crun's words; `what` begins the sentence, such as "the sandbox cannot start"."""
    for pattern, kind, say, field in _SPEAKS_OF:
        if complaint and pattern.search(complaint):
            return kind(f"{what}: {say}", because=complaint, field=field)
    return Failed(f"{what}: crun failed", because=complaint or "crun said nothing")


def version(binary: str = "crun") -> tuple[int, ...] | None:
    """What is installed; None when there is none. It must be VERSION_MIN or newer."""
    try:
        answer = subprocess.run(
            [binary, "--version"], capture_output=True, text=True, timeout=PROBE_WAIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_version(answer.stdout)


def parse_version(text: str) -> tuple[int, ...] | None:
    found = re.search(r"crun version v?(\d+)\.(\d+)(?:\.(\d+))?", text)
    return tuple(int(number) for number in found.groups() if number) if found else None
