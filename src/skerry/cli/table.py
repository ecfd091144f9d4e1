"""Every command: where it is and what it does in a line, so that help needs no import."""

from __future__ import annotations

from typing import NamedTuple


class Entry(NamedTuple):
    home: str
    """module:attribute, imported when the command is used."""
    says: str
    section: str | None = None
    """Heading in `skerry --help`; None: works, but is not listed."""


OFTEN, NOUNS, SETUP = "Often used", "Objects", "This machine"

COMMANDS: dict[str, Entry] = {
    "run": Entry("skerry.cli.run:run", "Make a sandbox, run a command in it, delete it.", OFTEN),
    "create": Entry("skerry.cli.sandbox:create", "Make a sandbox and keep it.", OFTEN),
    "exec": Entry("skerry.cli.execute:execute", "Run a command in a sandbox.", OFTEN),
    "shell": Entry("skerry.cli.execute:shell", "Open a shell in a sandbox.", OFTEN),
    "ssh": Entry("skerry.cli.ssh:ssh", "Log in to a sandbox with the system's ssh.", OFTEN),
    "cp": Entry("skerry.cli.cp:cp", "Copy files to or from a sandbox.", OFTEN),
    "url": Entry("skerry.cli.url:url", "Where a port of a sandbox is reached from outside.", OFTEN),
    "ps": Entry("skerry.cli.sandbox:list_sandboxes", "List sandboxes.", OFTEN),
    "logs": Entry("skerry.cli.watching:logs", "What a sandbox's main process printed.", OFTEN),
    "checkpoint": Entry(
        "skerry.cli.checkpoint:checkpoint", "Keep a sandbox's disk as it is now; list, compare.", OFTEN
    ),
    "restore": Entry("skerry.cli.moves:restore", "Put a sandbox back to a checkpoint.", OFTEN),
    "fork": Entry("skerry.cli.moves:fork", "Make sandboxes that begin as a copy of one.", OFTEN),
    "start": Entry("skerry.cli.sandbox:start", "Start a stopped sandbox.", OFTEN),
    "stop": Entry("skerry.cli.sandbox:stop", "Stop a sandbox; its disk stays.", OFTEN),
    "sleep": Entry("skerry.cli.sleep:sleep", "Let a sandbox rest until it is wanted.", OFTEN),
    "wake": Entry("skerry.cli.sleep:wake", "Wake a sandbox.", OFTEN),
    "proxy": Entry("skerry.cli.proxy:proxy", "Reach a sandbox's ports from here.", OFTEN),
    "rm": Entry("skerry.cli.sandbox:delete", "Delete sandboxes.", OFTEN),
    "sandbox": Entry("skerry.cli.sandbox:sandbox", "All about sandboxes.", NOUNS),
    "policy": Entry("skerry.cli.policy:policy", "What a sandbox may reach, and what it asked for.", NOUNS),
    "port": Entry("skerry.cli.port:port", "Ports of the server that lead to a sandbox.", NOUNS),
    "lease": Entry("skerry.cli.sleep:lease", "Keep a sandbox awake for a while.", NOUNS),
    "session": Entry("skerry.cli.session:session", "Commands left running in a sandbox.", NOUNS),
    "image": Entry("skerry.cli.image:image", "What sandboxes start from.", NOUNS),
    "key": Entry("skerry.cli.key:key", "What programs show to be let in.", NOUNS),
    "network": Entry("skerry.cli.network:network", "Private networks of sandboxes.", NOUNS),
    "node": Entry("skerry.cli.node:node", "Machines that run sandboxes.", NOUNS),
    "operation": Entry("skerry.cli.operation:operation", "Long pieces of work.", NOUNS),
    "events": Entry("skerry.cli.event:events", "What happened.", NOUNS),
    "ssh-config": Entry("skerry.cli.ssh:ssh_config", "Sandboxes as hosts for ssh, scp, rsync and editors.", SETUP),
    "context": Entry("skerry.cli.context:context", "Servers you talk to, and with which key.", SETUP),
    "serve": Entry("skerry.cli.serve:serve", "Start Skerry on this machine.", SETUP),
    "doctor": Entry("skerry.cli.doctor:doctor", "Check this machine and say what mends each miss.", SETUP),
    "completion": Entry("skerry.cli.completion:completion", "Print shell completion for bash, zsh or fish.", SETUP),
    "version": Entry("skerry.cli.version:version", "Versions of client and server.", SETUP),
    "help": Entry("skerry.cli.help:help_command", "Help on a command, or on exit-codes.", SETUP),
    "snapshot": Entry("skerry.cli.checkpoint:checkpoint", "The same as checkpoint."),
    "stats": Entry("skerry.cli.watching:stats", "What a sandbox uses."),
    "inspect": Entry("skerry.cli.sandbox:inspect", "All that is known of a sandbox."),
    "commit": Entry("skerry.cli.moves:commit", "Make an image of a sandbox's disk."),
    "update": Entry("skerry.cli.sandbox:update", "Change a sandbox's name, labels, protection or idle time."),
    "delete": Entry("skerry.cli.sandbox:delete", "Delete sandboxes."),
    "pull": Entry("skerry.cli.image:pull", "Fetch an image."),
}

HABITS: dict[str, str] = {
    "attach": "skerry session attach BOX",
    "box": "skerry image",
    "build": "skerry image build NAME --recipe debian:12",
    "clone": "skerry fork BOX",
    "config": "skerry context",
    "console": "skerry shell BOX",
    "containers": "skerry ps",
    "destroy": "skerry rm BOX",
    "diff": "skerry checkpoint diff BOX v1",
    "enter": "skerry shell BOX",
    "export": "skerry image export NAME FILE",
    "firewall": "skerry policy set BOX",
    "forward": "skerry proxy BOX 8080, or skerry port add BOX 8080:80 on the server",
    "global-status": "skerry ps",
    "halt": "skerry stop BOX",
    "images": "skerry image list",
    "import": "skerry image upload FILE",
    "info": "skerry version, or skerry inspect BOX",
    "init": "skerry create IMAGE",
    "kill": "skerry stop --grace 0 BOX, or skerry session kill BOX ID",
    "launch": "skerry create IMAGE",
    "list": "skerry ps",
    "load": "skerry image upload FILE",
    "login": "skerry context create NAME --address … --key …",
    "ls": "skerry ps",
    "networks": "skerry network list",
    "nodes": "skerry node list",
    "package": "skerry commit BOX IMAGE",
    "pause": "skerry sleep BOX",
    "port-forward": "skerry proxy BOX 8080",
    "ports": "skerry port list",
    "publish": "skerry port add BOX 8080:80",
    "rsync": "skerry ssh-config --write BOX && rsync … BOX.skerry:",
    "restart": "skerry stop BOX && skerry start BOX",
    "resume": "skerry wake BOX",
    "rmi": "skerry image rm NAME",
    "rollback": "skerry restore BOX v3",
    "save": "skerry image export NAME FILE",
    "scp": "skerry cp, or skerry ssh-config --write BOX && scp … BOX.skerry:",
    "service": "skerry sandbox service list BOX",
    "sessions": "skerry session list BOX",
    "status": "skerry ps",
    "suspend": "skerry sleep BOX",
    "top": "skerry stats BOX",
    "touch": "skerry lease create BOX --for 10m",
    "unpause": "skerry wake BOX",
    "up": "skerry create IMAGE, or skerry start BOX",
    "use": "skerry context use NAME",
    "x": "skerry exec BOX COMMAND",
}
"""Words of docker, Vagrant, Incus and Sprites -> ours."""
