"""A model that is being fetched while the programs that fetch it are killed: in the end it is whole, and nothing half
fetched is left; what had come before a kill is not fetched again."""

from __future__ import annotations

import hashlib
import http.server
import io
import os
import re
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from skerry.agent.models.fetch import FetchLimits
from skerry.client.calls import models as calls
from skerry.model.weights import ModelState
from tests.faults.test_worst_days import until
from tests.server import Server
from tests.system.conftest import connect

SUBNET = "10.233.0.0/20"
PART = FetchLimits().part_bytes
CONFIG = b'{"architectures": ["LlamaForCausalLM"]}'


class Site:
    """A web server that gives ranges of one file; what lies behind the first part only when it is let."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.asked: list[int] = []
        """Where each range begins."""
        self.let = threading.Event()
        self.stalled = threading.Event()


@contextmanager
def serving(site: Site) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers["Range"])
            assert found is not None
            start, end = int(found[1]), min(int(found[2]) + 1, len(site.data))
            site.asked += [start] if end - start > 1 else []
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(site.data)}")
            self.send_header("Content-Length", str(end - start))
            self.end_headers()
            if start >= PART and not site.let.is_set():
                self.wfile.write(site.data[start : start + 1000])
                site.stalled.set()
                site.let.wait(60)
                start += 1000
            try:
                self.wfile.write(site.data[start:end])
            except OSError:
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as front:
        front.daemon_threads = True
        threading.Thread(target=front.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{front.server_port}/tiny.tar"
        finally:
            site.let.set()
            front.shutdown()


@pytest.mark.timeout(300)
def test_a_pull_survives_whoever_does_it(server: Server) -> None:
    weights = os.urandom(PART)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, data in (("config.json", CONFIG), ("model.safetensors", weights)):
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    site = Site(packed.getvalue())
    kept = server.settings.data_dir / "agent" / "models"
    with serving(site) as url:
        with connect(server) as client:
            client.transport.json(calls.create(f"{url}#sha256={hashlib.sha256(site.data).hexdigest()}", name="tiny"))
            until(lambda: any((kept / "unfinished").glob("*/parts")) and site.stalled.is_set())
            # The first part is said to be there only when it is on the disk.
            until(lambda: any("\n0\n" in path.read_text() for path in (kept / "unfinished").glob("*/parts")))
        for programs in (("agent",), ("control",), ("control", "agent")):
            site.stalled.clear()
            server.kill(*programs)
            server.start(*programs)
            if "agent" in programs:
                until(site.stalled.is_set, 60)
        site.let.set()
        with connect(server) as client:
            until(lambda: client.models.get("tiny").state is not ModelState.CREATING, 60)
            model = client.models.get("tiny")
            assert model.state is ModelState.READY, model.reason
            assert {file.path: file.sha256 for file in client.models.files("tiny")} == {
                "config.json": hashlib.sha256(CONFIG).hexdigest(),
                "model.safetensors": hashlib.sha256(weights).hexdigest(),
            }
            assert site.asked.count(0) == 1, "what was on the disk is not fetched again"
            assert list((kept / "unfinished").iterdir()) == []
            assert len(list((kept / "blobs").iterdir())) == 2
            assert (kept / "trees" / model.id / "model.safetensors").read_bytes() == weights
            client.models.delete("tiny")
            until(lambda: list((kept / "blobs").iterdir()) == [])
