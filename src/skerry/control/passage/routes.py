"""Which requests are passed on and what their sandbox must be like: the one list, for routing and for documentation."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

from skerry.control.api.answers import Items
from skerry.model.checkpoint import Diff
from skerry.model.exec import ExecResult, ExecSession, ExecSpec, KillRequest, WindowSize
from skerry.model.file import FileInfo, FileList, MkdirRequest, RenameRequest
from skerry.model.guest_service import GuestService
from skerry.model.policy import Policy, PolicyTest
from skerry.model.port import ListeningPort, PortState
from skerry.model.sleep import Activity, Lease, LeaseRequest
from skerry.model.ssh import SshAccess, SshAccessRequest, SshGrant
from skerry.model.stats import Stats

SANDBOX = "/v1/sandboxes/{ref}"
CHECKPOINT = SANDBOX + "/checkpoints/{checkpoint_ref}"
EXEC, FILES, KEPT = SANDBOX + "/exec", SANDBOX + "/files", CHECKPOINT + "/files"
SESSION = EXEC + "/{session}"
SERVICE = SANDBOX + "/services/{service}"


class Needs(StrEnum):
    RUNNING = "running"
    DISK = "disk"  # running or stopped: whatever has a disk
    MACHINE = "machine"  # was placed once


class Raw(StrEnum):
    """Bodies that are not JSON."""

    BYTES = "application/octet-stream"
    TAR = "application/x-tar"
    TEXT = "text/plain"
    LINES = "application/x-ndjson"


@dataclass(frozen=True)
class Passed:
    method: str
    path: str
    """`{ref}`, `{checkpoint_ref}` and `{session}` stand for one part each."""
    summary: str
    needs: Needs = Needs.DISK
    body: Any = None
    answer: Any = None
    parameters: tuple[str, ...] = ()

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        whole = re.sub(r"\{(\w+):path\}", r"(?P<\1>.+)", self.path)
        return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", whole))


PASSED: tuple[Passed, ...] = (
    Passed("POST", EXEC, "Run a command", Needs.RUNNING, ExecSpec, ExecResult),
    Passed("GET", EXEC, "List the commands of a sandbox", Needs.MACHINE, None, Items[ExecSession]),
    Passed("GET", SESSION, "Get one command", Needs.MACHINE, None, ExecSession),
    Passed("POST", SESSION + "/kill", "Send a signal to a command", Needs.MACHINE, KillRequest),
    Passed("POST", SESSION + "/resize", "Resize a command's terminal", Needs.MACHINE, WindowSize),
    Passed("GET", FILES, "Read a file", Needs.DISK, None, Raw.BYTES, ("path", "wake")),
    Passed("PUT", FILES, "Write a file", Needs.DISK, Raw.BYTES, FileInfo, ("path", "mode", "parents")),
    Passed("DELETE", FILES, "Remove a file or folder", Needs.DISK, None, None, ("path", "recursive")),
    Passed("GET", FILES + "/list", "List a folder", Needs.DISK, None, FileList, ("path", "depth")),
    Passed("GET", FILES + "/stat", "Describe a file", Needs.DISK, None, FileInfo, ("path",)),
    Passed("POST", FILES + "/mkdir", "Make a folder", Needs.DISK, MkdirRequest, FileInfo),
    Passed("POST", FILES + "/rename", "Rename a file", Needs.DISK, RenameRequest, FileInfo),
    Passed("GET", FILES + "/archive", "Read a file or tree as tar", Needs.DISK, None, Raw.TAR, ("path",)),
    Passed("PUT", FILES + "/archive", "Extract a tar", Needs.DISK, Raw.TAR, dict[str, int], ("path", "parents")),
    Passed("GET", FILES + "/watch", "Follow changes of files", Needs.DISK, None, Raw.LINES, ("path", "recursive")),
    Passed("GET", SANDBOX + "/logs", "Read or follow the log", Needs.MACHINE, None, Raw.TEXT, ("follow", "tail")),
    Passed("GET", SANDBOX + "/stats", "Use of one sandbox now", Needs.MACHINE, None, Stats),
    Passed("GET", SANDBOX + "/activity", "Why one is awake or asleep", Needs.MACHINE, None, Activity),
    Passed("POST", SANDBOX + "/leases", "Keep one awake for a while", Needs.RUNNING, LeaseRequest, Lease),
    Passed("DELETE", SANDBOX + "/leases/{lease}", "End a lease", Needs.MACHINE, None, Lease),
    Passed("GET", SANDBOX + "/policy/log", "Names it asked for", Needs.MACHINE, None, Raw.LINES, ("follow", "tail")),
    Passed("POST", SANDBOX + "/policy/test", "Try a policy on its log", Needs.MACHINE, Policy, PolicyTest),
    Passed("GET", SANDBOX + "/ports", "Published ports, as they are now", Needs.MACHINE, None, Items[PortState]),
    Passed("GET", SANDBOX + "/ports/listening", "Where its programs listen", Needs.MACHINE, None, Items[ListeningPort]),
    Passed("GET", SANDBOX + "/ssh-access", "Where SSH leads in, and which keys do", Needs.MACHINE, None, SshAccess),
    Passed("POST", SANDBOX + "/ssh-access", "Make a key for SSH", Needs.MACHINE, SshAccessRequest, SshGrant),
    Passed("DELETE", SANDBOX + "/ssh-access", "Let no key in any more", Needs.MACHINE, None, None),
    Passed("POST", SERVICE + "/start", "Start a service and what it needs", Needs.RUNNING, None, GuestService),
    Passed("POST", SERVICE + "/stop", "Stop a service", Needs.RUNNING, None, GuestService),
    Passed("POST", SERVICE + "/restart", "Start a service again", Needs.RUNNING, None, GuestService),
    Passed("GET", SERVICE + "/logs", "Read or follow its log", Needs.MACHINE, None, Raw.TEXT, ("follow", "tail")),
    Passed("GET", CHECKPOINT + "/diff", "Paths changed since a checkpoint", Needs.MACHINE, None, Diff, ("to",)),
    Passed("GET", KEPT, "Read a file of a checkpoint", Needs.MACHINE, None, Raw.BYTES, ("path",)),
    Passed("GET", KEPT + "/list", "List a folder of a checkpoint", Needs.MACHINE, None, FileList, ("path", "depth")),
    Passed("GET", KEPT + "/stat", "Describe a file of a checkpoint", Needs.MACHINE, None, FileInfo, ("path",)),
    Passed("GET", KEPT + "/archive", "Read a tree of a checkpoint as tar", Needs.MACHINE, None, Raw.TAR, ("path",)),
    Passed("GET", "/v1/images/{image_ref:path}/export", "An image as OCI archive", Needs.MACHINE, None, Raw.TAR),
)
"""WebSockets pass too, and are described in words: OpenAPI has none."""

SOCKETS: tuple[Passed, ...] = (
    Passed("WS", EXEC, "Run a command interactively", Needs.RUNNING),
    Passed("WS", SESSION + "/attach", "Attach to a command again", Needs.MACHINE),
    Passed("WS", SANDBOX + "/ports/{port}/connect", "Connect to a port in it", Needs.RUNNING),
)


def match(method: str, path: str) -> tuple[Passed, dict[str, str]] | None:
    for passed in SOCKETS if method == "WS" else PASSED:
        if passed.method == method and (found := passed.pattern.fullmatch(path)):
            return passed, found.groupdict()
    return None
