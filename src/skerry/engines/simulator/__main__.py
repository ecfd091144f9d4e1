"""`python -m skerry.engines.simulator`: the simulated engine as a server."""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import signal
import socket
from collections.abc import Sequence
from typing import Any

from skerry.engines.simulator.faults import Fault
from skerry.engines.simulator.profile import Profile
from skerry.engines.simulator.server import Options, Simulator
from skerry.errors import Invalid


def parse(arguments: Sequence[str] | None = None) -> Options:
    parser = argparse.ArgumentParser(
        prog="simulator", description="An OpenAI-compatible server that behaves like a vLLM engine, without weights."
    )
    default = Options()
    parser.add_argument("--model", action="append", help="its name; again: one more name of it")
    parser.add_argument("--adapter", action="append", default=[], help="a LoRA adapter that is there from the start")
    parser.add_argument("--host", default=default.host)
    parser.add_argument("--port", type=int, default=default.port)
    parser.add_argument("--address", default=default.address, help="where other engines reach this one; auto: its own")
    parser.add_argument("--speed", type=float, default=1.0, help="so many times as fast as a real one")
    parser.add_argument("--load-s", type=float, default=0.0, help="seconds until it is healthy")
    parser.add_argument("--events-port", type=int, help="publish KV events there, over ZMQ as vLLM does")
    parser.add_argument("--replay-port", type=int, default=0, help="answer there who missed some")
    parser.add_argument("--seed", type=int, default=0, help="of the faults that have a share")
    parser.add_argument("--fault", action="append", default=[], help="KIND:name=value,... from the start")
    for field in dataclasses.fields(Profile):
        kind = {"int": int, "float": float}.get(str(field.type))
        flag = "--" + field.name.replace("_", "-")
        if kind is not None:
            parser.add_argument(flag, type=kind, default=field.default, help=f"of the engine ({field.default})")
    parser.add_argument("--no-prefix-cache", action="store_true")
    given = parser.parse_args(arguments)
    numbers: dict[str, Any] = {field.name: getattr(given, field.name, None) for field in dataclasses.fields(Profile)}
    numbers["prefix_cache"] = not given.no_prefix_cache
    try:
        profile = Profile(**numbers)
        faults = tuple(Fault.from_text(text) for text in given.fault)
        if given.speed <= 0:
            raise ValueError("speed: more than 0")
    except (ValueError, Invalid) as error:
        parser.error(str(error))
    return Options(
        models=tuple(given.model or default.models),
        adapters=tuple(given.adapter),
        host=given.host,
        port=given.port,
        address=_own_address() if given.address == "auto" else given.address,
        speed=given.speed,
        load_s=given.load_s,
        events_port=given.events_port,
        replay_port=given.replay_port,
        seed=given.seed,
        faults=faults,
        profile=profile,
    )


def _own_address() -> str:
    """That from which it would reach others; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return "127.0.0.1"
        return str(probe.getsockname()[0])


async def serve(options: Options) -> None:
    simulator = Simulator(options)
    await simulator.start()
    print(f"simulator of {', '.join(options.models)} at port {simulator.server.port}", flush=True)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await stop.wait()
    await simulator.stop()


if __name__ == "__main__":
    asyncio.run(serve(parse()))
