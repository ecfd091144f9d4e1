"""Steps that are text run in the sandbox: `run`, `script`, and a machine's `user_data`."""

from __future__ import annotations

import json
from typing import Any

from skerry.client.result import CommandResult
from skerry.environment.provision.guest import Guest, OnLine
from skerry.environment.provision.steps import Step
from skerry.errors import Unsupported

SEED = "/var/lib/cloud/seed/nocloud"
SETTINGS = "/etc/cloud/cloud.cfg.d/99-skerry.cfg"
SETTINGS_TEXT = """\
# By Skerry: what it gives is the only source; network, name, language and disk are as they are.
datasource_list: [NoCloud]
network: {config: disabled}
preserve_hostname: true
locale: false
resize_rootfs: false
growpart: {mode: "off"}
"""
CLOUD_STAGES = (
    ("init", "--local"),
    ("init",),
    ("modules", "--mode=config"),
    ("modules", "--mode=final"),
)
CLOUD_INIT_S = 3600.0


def run_text(guest: Guest, step: Step, text: bytes, on_line: OnLine) -> CommandResult:
    """As a file that is gone afterwards: in the list of processes and in history there is only its name."""
    body = step.body
    user: str | None = body.get("user")
    with guest.private_file(step.name, text, guest.ids(user)) as path:
        command = [path] if text.startswith(b"#!") else ["/bin/sh", "-e", path]
        return guest.run(
            [*command, *body.get("args", ())],
            on_line,
            user=user,
            workdir=body.get("workdir"),
            env=body.get("env"),
            timeout_s=body.get("timeout"),
        )


def run_user_data(guest: Guest, step: Step, sandbox: dict[str, Any], on_line: OnLine) -> CommandResult:
    """A script is run as it is; all else is for cloud-init, which the image must have."""
    text: str = step.body["text"]
    if text.startswith("#!"):
        return run_text(guest, step, text.encode(), on_line)
    if not guest.answer("command -v cloud-init"):
        raise Unsupported(
            "user_data is for cloud-init, which this image does not have: use an image with it, or a script with #!",
            field="user_data",
        )
    meta = {"instance-id": sandbox["id"], "local-hostname": sandbox["name"]}
    guest.write(SETTINGS, SETTINGS_TEXT, "0644")
    guest.write(f"{SEED}/user-data", text, "0600")
    guest.write(f"{SEED}/meta-data", json.dumps(meta) + "\n", "0600")
    # As at a boot, each stage is run whatever became of the one before.
    results = [guest.run(["cloud-init", *stage], on_line, timeout_s=CLOUD_INIT_S) for stage in CLOUD_STAGES]
    return next((result for result in results if not result.ok), results[-1])
