"""Bad input gets one clear sentence, the right status, and leaves nothing half done."""

from __future__ import annotations

import http.client
import json
import socket

import pytest

from skerry import Client
from skerry.errors import Invalid, NotFound, SkerryError, Unauthenticated
from tests.server import Server

IMAGE = "debian:12"


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(self._path)


def ask(server: Server, method: str, path: str, body: bytes = b"", **headers: str) -> tuple[int, dict]:
    connection = UnixConnection(str(server.settings.control_socket))
    connection.request(method, path, body, {"Authorization": f"Bearer {server.key}", **headers})
    answer = connection.getresponse()
    return answer.status, json.loads(answer.read() or b"{}")


@pytest.mark.parametrize(
    ("wish", "field", "words"),
    [
        ({"cpu": -1}, "cpu", "-1"),
        ({"cpu": 10_000}, "cpu", "256"),
        ({"memory": "2TB"}, "memory", "2TB"),
        ({"memory": "lots"}, "memory", "512MiB"),
        ({"name": "x" * 300}, "name", "63"),
        ({"name": "Not_Allowed"}, "name", "lower-case"),
        ({"workdir": "/a/../../etc"}, "workdir", ".."),
        ({"memroy": "1GiB"}, "memroy", "memory"),
        ({"env": {"A B": "c"}}, "env", "A B"),
        ({"mounts": [{"source": "/etc", "target": "/proc/x"}]}, "", "reserved"),
    ],
)
def test_one_sentence_with_field_and_what_is_allowed(server: Server, wish: dict, field: str, words: str) -> None:
    status, body = ask(server, "POST", "/v1/sandboxes", json.dumps({"image": IMAGE, **wish}).encode())
    assert status == 400
    message = body["error"]["message"]
    assert words in message
    assert "\n" not in message
    assert body["error"].get("field", "").startswith(field)


def test_memory_beyond_the_machine_is_refused_and_not_left_waiting(client: Client) -> None:
    with pytest.raises(Invalid, match="memory"):
        client.sandboxes.create(IMAGE, memory="900GiB", name="too-large")
    with pytest.raises(NotFound):
        client.sandboxes.get("too-large")


def test_unknown_image_says_how_to_get_one(client: Client) -> None:
    with pytest.raises(NotFound, match="no-such-image"):
        client.sandboxes.create("no-such-image:1")


def test_invalid_json_and_wrong_types(server: Server) -> None:
    assert ask(server, "POST", "/v1/sandboxes", b'{"image": ')[0] == 400
    assert ask(server, "POST", "/v1/sandboxes", b"[]")[0] == 400
    assert ask(server, "POST", "/v1/sandboxes", b"\xff\xfe")[0] == 400


def test_a_wrong_key_is_refused_everywhere_but_health(server: Server) -> None:
    connection = UnixConnection(str(server.settings.control_socket))
    connection.request("GET", "/health")
    assert connection.getresponse().read()
    for path in ("/v1/sandboxes", "/v1/images", "/v1/keys", "/v1/events", "/openapi.json", "/nowhere"):
        status, body = ask(server, "GET", path, Authorization="Bearer sk_wrong")
        assert status == 401, path
        assert "wrong" not in json.dumps(body)
    with pytest.raises(Unauthenticated):
        Client(address=server.address, key="nonsense").sandboxes.list()


def test_a_gigabyte_of_body_is_refused_before_it_is_read(server: Server) -> None:
    connection = UnixConnection(str(server.settings.control_socket))
    connection.putrequest("POST", "/v1/sandboxes")
    connection.putheader("Authorization", f"Bearer {server.key}")
    connection.putheader("Content-Length", str(1024**3))
    connection.endheaders()
    answer = connection.getresponse()
    assert answer.status == 413
    assert "16" in json.loads(answer.read())["error"]["message"]


def test_checkpoint_of_a_deleted_sandbox(client: Client) -> None:
    sandbox = client.sandboxes.create(IMAGE)
    sandbox.delete()
    with pytest.raises(NotFound):
        sandbox.checkpoint()


def test_a_command_that_does_not_exist_fails_the_sandbox_with_its_name(client: Client) -> None:
    with pytest.raises(SkerryError, match="no-such-program"):
        client.sandboxes.create(IMAGE, name="bad-command", command=["no-such-program"])
    assert client.sandboxes.get("bad-command").reason is not None
    client.sandboxes.connect("bad-command").delete()


@pytest.mark.parametrize("path", ["relative", "/a/../../etc/shadow", "/" + "x" * 5000])
def test_paths_that_are_not_paths(client: Client, path: str) -> None:
    with client.sandboxes.create(IMAGE) as sandbox, pytest.raises(Invalid):
        sandbox.files.read(path)
