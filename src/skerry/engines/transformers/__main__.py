"""`python -m skerry.engines.transformers`: a model in a folder, served."""

# pyright: reportMissingImports=false, reportUnknownMemberType=false

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from pathlib import Path

import torch

from skerry.engines.transformers import ANSWERS_AT_ONCE
from skerry.engines.transformers.generate import Model
from skerry.engines.transformers.server import ModelServer


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="transformers", description="Serve a model of transformers.")
    parser.add_argument("--model", required=True, help="its folder")
    parser.add_argument("--name", action="append", help="what clients call it; again: one more name")
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--device")
    parser.add_argument("--batch", type=int, default=ANSWERS_AT_ONCE, help="answers at once")
    parser.add_argument("--waiting", type=int, default=256, help="requests that wait for that")
    parser.add_argument("--max-model-len", type=int)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--trust-remote-code", action="store_true")
    parser.add_argument("--chat-template", type=Path, help="a file with a Jinja template")
    parser.add_argument("--defaults", type=json.loads, default={}, help="JSON of what a request has unless it says")
    parser.add_argument("--system", help="what a chat begins with that has no system message")
    return parser.parse_args()


async def serve(given: argparse.Namespace) -> None:
    names = tuple(given.name or [Path(given.model).name])
    front = ModelServer(
        names, given.host, given.port, given.batch, given.waiting, defaults=given.defaults, system=given.system
    )
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    server = await front.start()
    print(f"listening at port {server.port}, loading {given.model}", flush=True)
    template = given.chat_template.read_text() if given.chat_template else None

    def load() -> Model:
        return Model(
            given.model,
            dtype=given.dtype,
            device=given.device,
            max_model_len=given.max_model_len,
            trust=given.trust_remote_code,
            template=template,
        )

    front.loaded(await asyncio.to_thread(load))
    print(f"{', '.join(names)} is ready", flush=True)
    await stop.wait()
    if front.worker is not None:
        front.worker.stop()
    await server.stop()


if __name__ == "__main__":
    arguments = parse()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    asyncio.run(serve(arguments))
