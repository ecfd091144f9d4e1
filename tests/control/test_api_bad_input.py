"""What is refused, with which status, and in which one sentence."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.control.conftest import Api, serving
from tests.reconcile.fake_agent import FakeAgent

pytestmark = pytest.mark.anyio

IMAGE = {"image": "debian:12"}
RUN = "/v1/sandboxes/one/exec"

SENTENCES: list[tuple[dict[str, Any], str, str]] = [
    ({**IMAGE, "cpu": -1}, "cpu", "cpu: -1 is not allowed; give 0.05 to 256"),
    ({**IMAGE, "pids": 1}, "pids", "pids: 1 is not allowed; give 8 to 32768"),
    ({**IMAGE, "memory": "2TB"}, "memory", "memory: 2TB is not allowed; give 16.0MiB to 1.0TiB"),
    ({**IMAGE, "checkpoints": {"keep": 0}}, "checkpoints.keep", "checkpoints.keep: 0 is not allowed; give 1 to 1000"),
    ({**IMAGE, "cpus": 1}, "cpus", "cpus: there is no such field; did you mean cpu?"),
    (
        {**IMAGE, "network": {"enable": True}},
        "network.enable",
        "network.enable: there is no such field; did you mean enabled?",
    ),
    ({"name": "x"}, "image", "image: this field is required"),
]


@pytest.mark.parametrize(("body", "field", "sentence"), SENTENCES, ids=[each[1] for each in SENTENCES])
async def test_one_sentence_with_the_fields_path(api: Api, body: dict[str, Any], field: str, sentence: str) -> None:
    answer = await api.call("POST", "/v1/sandboxes", body)
    assert (answer.status, answer.json["error"]["code"]) == (400, "invalid")
    assert answer.json["error"]["field"] == field
    assert answer.message == sentence


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({**IMAGE, "name": "x" * 300}, "name"),
        ({**IMAGE, "name": "Über"}, "name"),
        ({**IMAGE, "memory": "lots"}, "memory"),
        ({**IMAGE, "cpu": "many"}, "cpu"),
        ({**IMAGE, "workdir": "../etc"}, "workdir"),
        ({**IMAGE, "workdir": "/a/../../etc"}, "workdir"),
        ({**IMAGE, "command": []}, "command"),
        ({**IMAGE, "env": {"1X": "y"}}, "env"),
        ({**IMAGE, "labels": {"bad key": "y"}}, "labels"),
        ({**IMAGE, "mounts": [{"source": "relative", "target": "/x"}]}, "mounts[0].source"),
        ({**IMAGE, "network": {"rules": [{"cidr": "nonsense"}]}}, "network.rules[0].cidr"),
        ({**IMAGE, "network": {"rules": [{"domain": "*"}]}}, "network.rules[0].domain"),
        ({**IMAGE, "network": {"allow": ["10.0.0.0/8"]}}, "network.allow"),
        ({**IMAGE, "user": "a b"}, "user"),
    ],
)
async def test_bad_fields_are_named(api: Api, body: dict[str, Any], field: str) -> None:
    answer = await api.call("POST", "/v1/sandboxes", body)
    assert (answer.status, answer.json["error"].get("field")) == (400, field), answer.text
    assert "\n" not in answer.message
    assert len(answer.message) < 300
    assert (await api.call("GET", "/v1/sandboxes")).json["items"] == []  # nothing half done


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"{", "not valid JSON"),
        (b"", "JSON object"),
        (b"[]", "JSON object"),
        (b'"text"', "JSON object"),
        (b"null", "JSON object"),
        (b"\xff\xfe", "JSON"),
        (b'{"image": NaN', "JSON"),
        (b"[" * 100_000, "JSON"),
    ],
)
async def test_body_that_is_no_json_object(api: Api, raw: bytes, words: str) -> None:
    answer = await api.call("POST", "/v1/sandboxes", data=raw, headers={"Content-Type": "application/json"})
    assert answer.status == 400, answer.text
    assert words in answer.message


@pytest.mark.parametrize(
    ("path", "field", "words"),
    [
        ("/v1/sandboxes?limit=0", "limit", "limit: 0 is not allowed; give 1 or more"),
        ("/v1/sandboxes?limit=501", "limit", "limit: 501 is not allowed; give 500 or less"),
        ("/v1/sandboxes?limit=x", "limit", "limit: 'x' is not allowed; give a whole number"),
        ("/v1/sandboxes?state=flying", "state", "state: 'flying' is not allowed; give 'pending'"),
        ("/v1/sandboxes?label=x", "label", "label: 'x' is not allowed; give KEY=VALUE"),
        ("/v1/sandboxes?lable=a=b", "lable", "lable: there is no such parameter; did you mean label?"),
        ("/v1/sandboxes?page_token=zzz", "page_token", "page_token: give the next_page_token"),
        ("/v1/sandboxes?image=../x", "image", "image: expected an image name"),
        ("/v1/operations/op-1?wait_s=601", "wait_s", "wait_s: 601 is not allowed; give 600 or less"),
        ("/v1/events?after=-1", "after", "after: -1 is not allowed; give 0 or more"),
    ],
)
async def test_bad_parameters(api: Api, path: str, field: str, words: str) -> None:
    answer = await api.call("GET", path)
    assert (answer.status, answer.json["error"]["field"]) == (400, field), answer.text
    assert answer.message.startswith(words)


async def test_unknown_things_are_404(api: Api) -> None:
    for method, path in [
        ("GET", "/v1/sandboxes/none"),
        ("POST", "/v1/sandboxes/none/exec"),
        ("GET", "/v1/sandboxes/none/logs"),
        ("GET", "/v1/images/none"),
        ("GET", "/v1/images/none/export"),
        ("GET", "/v1/operations/op-none"),
        ("DELETE", "/v1/keys/none"),
        ("GET", "/v2/other"),
        ("GET", "/"),
        ("GET", "/v1/sandboxes/none/exec/x/y/z"),
        ("GET", "/v1/sandboxes/%2e%2e/exec"),
    ]:
        answer = await api.call(method, path, {} if method == "POST" else None)
        assert (answer.status, answer.json["error"]["code"]) == (404, "not_found"), (path, answer.text)
    assert (await api.call("PUT", "/v1/sandboxes")).status == 405


async def test_fork_counts(api: Api) -> None:
    for count in (0, 101, 10_000):
        answer = await api.call("POST", "/v1/sandboxes/none/fork", {"count": count})
        assert (answer.status, answer.message) == (400, f"count: {count} is not allowed; give 1 to 100")


async def test_checkpoint_of_a_deleted_sandbox(api: Api) -> None:
    await api.image()
    box = await api.sandbox(name="one")
    await api.call("DELETE", "/v1/sandboxes/one?wait_s=30")
    answer = await api.call("POST", f"/v1/sandboxes/{box['id']}/checkpoints")
    assert (answer.status, answer.message) == (404, f"sandbox {box['id']} was deleted")


# Keys


async def test_key_is_needed_for_everything_but_health(api: Api) -> None:
    for authorization in ("", "Bearer", "Bearer sk_wrong", f"Basic {api.key}", f"Bearer {api.key}x", "Bearer \xff"):
        answer = await api.call("GET", "/v1/sandboxes", headers={"Authorization": authorization})
        assert (answer.status, answer.json["error"]["code"]) == (401, "unauthenticated"), authorization
        assert answer.headers["WWW-Authenticate"] == "Bearer"
    for path in ("/v1/info", "/openapi.json", "/v1/sandboxes/x/exec", "/nowhere", "/health/", "//health"):
        assert (await api.call("GET", path, headers={"Authorization": ""})).status == 401, path
    assert (await api.call("GET", "/health", headers={"Authorization": ""})).json == {"status": "ok"}


async def test_deleted_key_stops_at_once_and_the_last_stays(api: Api) -> None:
    made = await api.call("POST", "/v1/keys", {"name": "ci"})
    assert made.status == 201
    other = {"Authorization": f"Bearer {made.json['secret']}"}
    assert (await api.call("GET", "/v1/info", headers=other)).status == 200
    listed = (await api.call("GET", "/v1/keys")).json["items"]
    assert [each["name"] for each in listed] == ["admin", "ci"]
    assert not any("secret" in each for each in listed)
    assert (await api.call("POST", "/v1/keys", {"name": "ci"})).status == 409
    own = await api.call("DELETE", "/v1/keys/ci", headers=other)
    assert (own.status, "calling with" in own.message) == (409, True)
    assert (await api.call("DELETE", "/v1/keys/ci")).json["name"] == "ci"
    assert (await api.call("GET", "/v1/info", headers=other)).status == 401
    last = await api.call("DELETE", "/v1/keys/admin")
    assert (last.status, "last key" in last.message) == (409, True)


async def test_use_of_a_key_is_written_down(api: Api) -> None:
    for _ in range(600):
        (admin,) = (await api.call("GET", "/v1/keys")).json["items"]
        if admin["last_used_at"]:
            return
        await asyncio.sleep(0.05)
    pytest.fail("never written")


# Hosts and sizes


async def test_foreign_host_names_are_refused_on_tcp(api: Api) -> None:
    import aiohttp

    async with aiohttp.ClientSession() as session:
        for host, status in [
            ("evil.example", 403),
            ("localhost.evil.example", 403),
            ("127.0.0.1.evil.example:7070", 403),
            ("localhost:7070", 200),
            ("127.0.0.1", 200),
            ("[::1]:7070", 200),
            ("10.0.0.1", 200),
        ]:
            headers = {"Host": host, "Authorization": f"Bearer {api.key}"}
            async with session.get(api.tcp_base + "/v1/info", headers=headers) as answer:
                assert answer.status == status, host
                assert "access-control-allow-origin" not in answer.headers


@pytest.fixture
async def small(agent: FakeAgent) -> AsyncIterator[Api]:
    async with serving(agent.path.parent.parent, agent, body_bytes_max=4096, upload_bytes_max=1024**2) as api:
        await api.image()
        await api.sandbox(name="one")
        yield api


def raw_request(api: Api, head: str, body: bytes = b"") -> bytes:
    """What a client gets that sends its body without listening, as simple ones do."""
    host, port = api.tcp_base.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(f"{head}\r\nHost: localhost\r\nAuthorization: Bearer {api.key}\r\n\r\n".encode())
        try:
            connection.sendall(body)
        except OSError:
            pass
        answer = b""
        while chunk := connection.recv(65536):
            answer += chunk
        return answer


async def test_gigabyte_body_is_refused_before_it_is_sent(small: Api) -> None:
    head = f"POST /v1/sandboxes HTTP/1.1\r\nContent-Length: {1 << 30}"
    answer = await asyncio.to_thread(raw_request, small, head, b"x" * 3_000_000)
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"the body is larger than 4.0KiB, the most that is allowed here" in answer


async def test_body_of_unknown_length_is_counted(small: Api) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(100):
            yield b"x" * 1024

    answer = await small.call("POST", "/v1/sandboxes", data=endless())
    assert (answer.status, answer.json["error"]["code"]) == (413, "too_large")
    answer = await small.call("POST", RUN, data=endless())
    assert answer.status == 413


async def test_uploads_have_their_own_limit(small: Api) -> None:
    path = "/v1/sandboxes/one/files?path=/big"

    async def chunks(count: int) -> AsyncIterator[bytes]:
        for _ in range(count):
            yield b"x" * 65536

    fits = await small.call("PUT", path, data=chunks(16))
    assert (fits.status, fits.json["size_bytes"]) == (200, 1024**2)
    over = await small.call("PUT", path, data=chunks(17))
    assert (over.status, over.json["error"]["code"]) == (413, "too_large")
    told = await small.call("PUT", path, data=b"x" * (1024**2 + 1))
    assert told.status == 413


async def test_a_project_that_is_not_there_is_not_taken_for_the_one_that_is(api: Api) -> None:
    answer = await api.call("GET", "/v1/sandboxes", headers={"Skerry-Project": "team-a"})
    assert (answer.status, answer.json["error"]["code"]) == (404, "not_found")
    assert (await api.call("GET", "/v1/sandboxes", headers={"Skerry-Project": "default"})).status == 200
