"""Jobs on real sandboxes: gangs that talk, arrays, retries, logs after the end, a webhook, and control killed."""

from __future__ import annotations

import hashlib
import hmac
import http.server
import json
import threading
import time
from typing import Any

import pytest

from skerry import Client
from tests.server import Server
from tests.system.conftest import IMAGE

pytestmark = pytest.mark.system

SERVE = (
    "use IO::Socket::INET; if($ENV{RANK}==0){"
    "$s=IO::Socket::INET->new(Listen=>9,LocalPort=>$ENV{MASTER_PORT},ReuseAddr=>1) or die; $c=$s->accept; print <$c>;"
    "}else{for(1..800){$c=IO::Socket::INET->new(PeerAddr=>$ENV{MASTER_ADDR},PeerPort=>$ENV{MASTER_PORT}) and last;"
    "select undef,undef,undef,.05} print $c 'rank 1 of ',$ENV{WORLD_SIZE},' at ',$c->sockhost,qq(\\n)}"
)


class Api:
    """The routes themselves."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def call(self, method: str, path: str, body: Any = None) -> Any:
        import urllib.request

        host = self._server.settings.listen
        request = urllib.request.Request(
            f"http://{host}{path}",
            None if body is None else json.dumps(body).encode(),
            {"Authorization": f"Bearer {self._server.key}", "Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            data = answer.read()
        return json.loads(data) if answer.headers["Content-Type"] == "application/json" else data.decode()

    def submit(self, **spec: Any) -> Any:
        return self.call("POST", "/v1/jobs", {"image": IMAGE, "memory": "64MiB", "cpu": 0.5, **spec})

    def wait(self, job: Any) -> Any:
        return self.call("GET", f"/v1/jobs/{job['id']}?wait_s=50")

    def logs(self, job: Any, index: int = 0, query: str = "") -> str:
        return self.call("GET", f"/v1/jobs/{job['id']}/tasks/{index}/logs?{query}")

    def task(self, job: Any, index: int = 0) -> Any:
        return self.call("GET", f"/v1/jobs/{job['id']}/tasks/{index}")


@pytest.fixture
def api(client: Client, server: Server) -> Api:
    return Api(server)


def test_a_gang_talks_over_its_network(api: Api) -> None:
    job = api.submit(name="talk", nodes=2, command=["perl", "-e", SERVE])
    assert "rank 1 of 2 at 10.205.0.2" in api.logs(job, query="follow=true")
    ended = api.wait(job)
    assert (ended["state"], ended["reason"]) == ("succeeded", None)


def test_an_array_writes_output_and_its_logs_stay(api: Api, client: Client, server: Server) -> None:
    client.volumes.create("results", size="32MiB")
    job = api.submit(
        name="many",
        array="1-3",
        output="results",
        user="1000",
        command="echo {index} > $SKERRY_OUTPUT/n; echo out {index}",
    )
    assert api.wait(job)["progress"]["succeeded"] == 3
    with client.sandboxes.create(IMAGE, mounts=["results:/r:ro"]) as reader:
        assert reader.commands.run("cat /r/many/*/n").stdout == "1\n2\n3\n"
    assert [box.name for box in client.sandboxes.list() if box.name.startswith("job-")] == []
    while any(box["job"] == job["id"] for box in api.call("GET", "/v1/sandboxes?jobs=true")["items"]):
        time.sleep(0.05)
    client.volumes.delete("results")
    assert api.logs(job, 2) == "out 2\n"
    assert api.logs(job, 2, "follow=true&tail=1") == "out 2\n"


def test_retries_sweeps_and_cancel(api: Api) -> None:
    again = api.submit(
        command="test $SKERRY_ATTEMPT = 1 && echo better || exit 9", retry={"limit": 2, "on": [9], "backoff_s": 0.1}
    )
    sweep = api.submit(sweep={"rate": [0.1, 0.2], "deep": [True]}, command="echo {rate} $SKERRY_PARAM_DEEP {rank}")
    long = api.submit(command="trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.05; done", grace_s=5)
    assert api.wait(again)["state"] == "succeeded"
    task = api.task(again)
    assert (task["attempt"], task["failures"], task["exit_code"]) == (1, 1, 0)
    assert (api.logs(again), api.logs(again, 0, "attempt=0")) == ("better\n", "")
    assert api.wait(sweep)["state"] == "succeeded"
    assert (api.logs(sweep, 0), api.logs(sweep, 1)) == ("0.1 true 0\n", "0.2 true 0\n")
    while "up" not in api.logs(long):  # before that it would not hear what it is told
        time.sleep(0.05)
    api.call("POST", f"/v1/jobs/{long['id']}/cancel", {"reason": "enough"})
    assert api.wait(long)["state"] == "cancelled"
    assert "bye" in api.logs(long)


def test_control_killed_in_the_middle(api: Api, client: Client, server: Server) -> None:
    job = api.submit(array=3, parallel=2, command="echo {index}; sleep 0.5")
    server.kill("control")
    server.start("control")
    assert api.wait(job)["progress"]["succeeded"] == 3
    assert [api.logs(job, index) for index in range(3)] == ["0\n", "1\n", "2\n"], "each ran once"


def test_a_webhook_is_signed(api: Api, client: Client, server: Server) -> None:
    got: list[tuple[dict[str, str], bytes]] = []
    arrived = threading.Event()

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append(({name.lower(): value for name, value in self.headers.items()}, body))
            self.send_response(500 if len(got) == 1 else 200)
            self.end_headers()
            if len(got) > 1:
                arrived.set()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    client.secrets.set("hook", "s3cret")
    url = f"http://127.0.0.1:{receiver.server_address[1]}/jobs"
    job = api.submit(name="told", command=["true"], notify=[{"webhook": url, "secret": "hook"}])
    assert api.wait(job)["state"] == "succeeded"
    assert arrived.wait(30)
    receiver.shutdown()
    client.secrets.delete("hook")
    (first, body), (second, again) = got[:2]
    assert body == again, "tried again, with the same id"
    assert first["x-skerry-delivery"] == second["x-skerry-delivery"] == json.loads(body)["id"]
    at, signed = (part.partition("=")[2] for part in second["x-skerry-signature"].split(","))
    assert signed == hmac.new(b"s3cret", at.encode() + b"." + body, hashlib.sha256).hexdigest()
    assert (json.loads(body)["event"], json.loads(body)["job"]["name"]) == ("succeeded", "told")
    assert api.call("DELETE", f"/v1/jobs/{job['id']}")["id"] == job["id"]
