"""An `ansible` step: ansible-playbook on this machine, against the sandbox through our own SSH configuration."""

from __future__ import annotations

import codecs
import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skerry.client.result import CommandResult
from skerry.client.ssh_files import SUFFIX, SshFiles, block
from skerry.environment.provision.guest import Guest, Lines, OnLine
from skerry.environment.trees.local import real_place
from skerry.errors import Unsupported

PROGRAM = "ansible-playbook"
READ_BYTES = 64 * 1024
STOP_S = 5.0
"""Given to ansible to end by itself when its time is over or we are interrupted."""
SETTINGS = {
    "ANSIBLE_HOST_KEY_CHECKING": "True",  # the configuration names the one key; ansible would switch that off
    "ANSIBLE_PIPELINING": "True",
    "ANSIBLE_RETRY_FILES_ENABLED": "False",
    "ANSIBLE_NOCOLOR": "1",
    "ANSIBLE_FORCE_COLOR": "0",
    "ANSIBLE_NOCOWS": "1",
    "PYTHONUNBUFFERED": "1",
}


def find_program(environ: Mapping[str, str]) -> str:
    """On PATH, else beside the Python that runs us, where `pip install skerry[ansible]` puts it."""
    ours = os.path.dirname(sys.executable)
    found = shutil.which(PROGRAM, path=environ.get("PATH")) or shutil.which(PROGRAM, path=ours)
    if found is None:
        raise Unsupported(f"there is no {PROGRAM} on this machine: run `pip install ansible-core`")
    if shutil.which("ssh", path=environ.get("PATH")) is None:
        raise Unsupported("there is no ssh on this machine, by which ansible works: `apt-get install openssh-client`")
    return found


def play(
    guest: Guest, member: str, body: Mapping[str, Any], folder: Path, environ: Mapping[str, str], on_line: OnLine
) -> CommandResult:
    program = find_program(environ)
    asked: dict[str, Any] = body["ansible"]
    playbook = real_place(folder, asked["playbook"])
    way = SshFiles(environ).way(guest.transport, guest.ref)
    with tempfile.TemporaryDirectory(prefix="skerry-") as scratch:
        room = Path(scratch)  # 0700: the variables may be secret
        (room / "ssh").write_text(block(member, way.id, way.options(user=body.get("user"))) + "\n")
        (room / "vars.json").write_text(json.dumps(asked.get("vars") or {}))
        (room / "hosts.json").write_text(json.dumps(inventory(member, member + SUFFIX, asked.get("groups") or [])))
        arguments = [program, "--inventory", str(room / "hosts.json"), "--extra-vars", f"@{room / 'vars.json'}"]
        for option, given in (("--tags", asked.get("tags")), ("--skip-tags", asked.get("skip_tags"))):
            arguments += [option, ",".join(given)] if given else []
        connection = f"-F {room / 'ssh'} -o ControlMaster=auto -o ControlPersist=30s -o ControlPath={room / 'c'}"
        own = {"ANSIBLE_SSH_ARGS": connection, "ANSIBLE_LOCAL_TEMP": str(room / "tmp")}
        more: dict[str, str] = body["env"]
        env = {**environ, **SETTINGS, **own, **more}
        try:
            result = _run([*arguments, str(playbook)], env, folder, float(body["timeout"]), on_line)
        finally:
            end = ["ssh", "-F", str(room / "ssh"), "-o", f"ControlPath={room / 'c'}", "-O", "exit", member + SUFFIX]
            subprocess.run(end, env=dict(environ), capture_output=True, check=False, timeout=STOP_S)
    if not result.ok and not result.timed_out and not guest.answer("command -v python3 || command -v python"):
        on_line("the sandbox has no python3, which ansible's modules need: install it in a step before", "stderr")
    return result


def inventory(member: str, address: str, groups: list[str]) -> dict[str, Any]:
    """As JSON, which is YAML: one host, in `all` and in each group."""
    host = {member: {"ansible_host": address, "ansible_python_interpreter": "auto_silent"}}
    return {"all": {"hosts": host, "children": {group: {"hosts": {member: {}}} for group in groups}}}


def _run(
    arguments: list[str], env: Mapping[str, str], folder: Path, timeout_s: float, on_line: OnLine
) -> CommandResult:
    """In a session of its own, so that what it started ends with it."""
    deadline = time.monotonic() + timeout_s
    child = subprocess.Popen(
        arguments, env=dict(env), cwd=folder, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        if not _pump(child, deadline, on_line):
            return CommandResult(124, "", "", timed_out=True)
        return CommandResult(child.wait(), "", "")
    finally:
        _end(child)


def _pump(child: subprocess.Popen[bytes], deadline: float, on_line: OnLine) -> bool:
    """Lines as they come, to the end of both streams. False where the deadline came first."""
    decoder = codecs.getincrementaldecoder("utf-8")
    with selectors.DefaultSelector() as selector:
        for name, pipe in (("stdout", child.stdout), ("stderr", child.stderr)):
            assert pipe is not None
            selector.register(pipe, selectors.EVENT_READ, (name, Lines(), decoder("replace")))
        while selector.get_map():
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready and time.monotonic() >= deadline:
                return False
            for key, _ in ready:
                name, lines, text = key.data
                data = os.read(key.fd, READ_BYTES)
                for line in lines.feed(text.decode(data)) if data else lines.end():
                    on_line(line, name)
                if not data:
                    selector.unregister(key.fileobj)
    return True


def _end(child: subprocess.Popen[bytes]) -> None:
    for sent in (signal.SIGTERM, signal.SIGKILL):
        if child.poll() is None:
            try:
                os.killpg(child.pid, sent)
                child.wait(STOP_S)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                pass
    for pipe in (child.stdout, child.stderr):
        if pipe is not None:
            pipe.close()
