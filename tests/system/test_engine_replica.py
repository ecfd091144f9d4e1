"""An engine of ours in a real sandbox: its code comes along in a variable, and nothing but Python is there."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

import pytest

from skerry import Client
from tests.server import CACHE, Server, debian_tree, oci_archive
from tests.system.test_services_noun import gateway as gateway
from tests.system.test_services_noun import skerry


@pytest.mark.timeout(400)  # the first on a machine fetches the packages of its image
def test_the_simulator_answers_from_its_sandbox(gateway: Server, client: Client, tmp_path: Path) -> None:
    server = gateway
    archive = oci_archive(debian_tree("python3", "cloud-init"), CACHE / "debian-12-python3.oci.tar")
    skerry(server, "image", "upload", str(archive), "--name", "python3")
    options = ("--option", "speed=50", "--option", "load-s=0.5")
    out = skerry(server, "service", "create", "tide", "--engine", "simulator", "--image", "python3", *options, "--json")
    made = json.loads(out)
    assert (made["status"], made["ready"]) == ("healthy", 1)
    box = client.sandboxes.get(made["replicas"][0]["sandbox"])
    body = {"model": "tide", "messages": [{"role": "user", "content": "Who sees it?"}], "max_tokens": 8}
    request = urllib.request.Request(f"http://{box.address}:8000/v1/chat/completions", json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert json.load(answer)["usage"]["completion_tokens"] == 8
    load = ("--rate", "50", "--requests", "20", "--input-tokens", "20", "--output-tokens", "4")
    measured = json.loads(skerry(server, "bench", "run", "--service", "tide", *load, "--out", str(tmp_path), "--json"))
    assert measured["summary"]["says"] == {}
    assert measured["summary"]["metrics"]["output_tokens"]["mean"] == 4
    assert "***" in (tmp_path / "summary.json").read_text()
    assert server.key not in "".join(each.read_text() for each in tmp_path.iterdir())
    client.services.delete("tide", now=True)
    client.images.delete("python3")
