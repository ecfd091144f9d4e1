"""Makes a program of ours die at its Nth step, from outside: Python imports this file by its name when a test puts
its folder on PYTHONPATH. Production code knows nothing of it.

A step is the moment before and the moment after every public method of the classes below. A test arms the program
by writing N to `$SKERRY_FAULTS/<program>.die`; at step N the file is removed and the process kills itself.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import inspect
import os
import signal
import sys

STEPS = {
    "agent": {
        "skerry.agent.journal": ["Journal"],
        "skerry.agent.slots": ["SlotPool"],
        "skerry.agent.services.kept": ["KeptServices"],
        "skerry.runtime.container.runtime": ["ContainerRuntime"],
        "skerry.runtime.container.pool": ["Pool"],
    },
    "control": {
        "skerry.store.records": ["Records"],
        "skerry.store.changes": ["Changes"],
        "skerry.client.agent": ["AgentClient"],
    },
}
READS = """
    get all slots used look images image_path disk_path checkpoint_path checkpoints disks disk_usage room usage
    adopt adopt_exec wait exec open close index belief name_of at_rest in_states with_ids states_of find whole_name
    reports network_of cable read watch_reports capacity checkpoint_ids image_digests session request listen
    watching publish_events volumes volume_path
"""
"""Methods that change nothing: dying beside one is dying beside its neighbour."""
FOLDER = os.environ.get("SKERRY_FAULTS", "")
count = 0


def step(program: str, name: str) -> None:
    global count
    path = f"{FOLDER}/{program}.die"
    try:
        with open(path) as file:
            wanted = int(file.read() or 0)
    except (FileNotFoundError, ValueError):
        count = 0
        return
    count += 1
    if count >= wanted:
        os.unlink(path)
        with open(f"{FOLDER}/{program}.died", "a") as file:
            file.write(f"{count} {name}\n")
        os.kill(os.getpid(), signal.SIGKILL)


def wrap(program: str, owner: type, name: str, method: object) -> None:
    label = f"{owner.__name__}.{name}"
    if inspect.isasyncgenfunction(method) or not inspect.isfunction(method):
        return
    if inspect.iscoroutinefunction(method):

        @functools.wraps(method)
        async def dying(*args, **kwargs):
            step(program, f"before {label}")
            result = await method(*args, **kwargs)
            step(program, f"after {label}")
            return result

    else:

        @functools.wraps(method)
        def dying(*args, **kwargs):
            step(program, f"before {label}")
            result = method(*args, **kwargs)
            if name != "publish":  # nothing happens in it: a commit lies before it, the next move behind it
                step(program, f"after {label}")
            return result

    setattr(owner, name, dying)


class Finder(importlib.abc.MetaPathFinder):
    def __init__(self, program: str) -> None:
        self.program = program
        self.classes = STEPS[program]

    def find_spec(self, fullname, path, target=None):
        if fullname not in self.classes:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            for class_name in self.classes[fullname]:
                owner = getattr(module, class_name)
                for name, method in list(vars(owner).items()):
                    if not name.startswith("_") and name not in READS.split():
                        wrap(self.program, owner, name, method)

        spec.loader.exec_module = exec_module
        return spec


if FOLDER:
    arguments = sys.orig_argv
    if "skerry.serve.launch" in arguments:
        sys.meta_path.insert(0, Finder(arguments[arguments.index("skerry.serve.launch") + 1]))
