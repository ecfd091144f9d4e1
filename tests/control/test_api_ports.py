"""Published ports through the API: one owner each, refused at once with the owner's name, free again when it stops."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.control.conftest import Api

pytestmark = pytest.mark.anyio
ONE = "/v1/sandboxes/one"


def at(host: int | None, guest: int = 80, **more: Any) -> dict[str, Any]:
    return {"guest": guest, **({} if host is None else {"host": host}), **more}


async def refused(api: Api, ports: list[dict[str, Any]]) -> str:
    answer = await api.call("POST", "/v1/sandboxes", {"image": "debian:12", "ports": ports})
    assert (answer.status, answer.json["error"]["code"], answer.json["error"]["field"]) == (409, "in_use", "ports")
    return answer.message


async def test_a_port_has_one_owner_and_whoever_comes_second_is_told_its_name(api: Api) -> None:
    await api.image()
    box = await api.sandbox(name="one", ports=[at(8080), at(53, protocol="udp", ip="0.0.0.0")])
    assert box["spec"]["ports"][0] == at(8080, ip="127.0.0.1", protocol="tcp", auto_correct=False, wanted=None)
    said = "ports: 127.0.0.1:8080 is published by sandbox one; choose another"
    assert await refused(api, [at(8080)]) == said
    assert "0.0.0.0:8080 is published by sandbox one" in await refused(api, [at(8081), at(8080, ip="0.0.0.0")])
    assert "127.0.0.1:53/udp is published by sandbox one" in await refused(api, [at(53, protocol="udp")])
    await api.sandbox(
        name="two", ports=[at(8080, protocol="udp"), at(53), at(8080, ip="127.0.0.2"), at(8080, ip="::1")]
    )


async def test_two_at_once_cannot_have_the_same(api: Api) -> None:
    await api.image()
    body = {"image": "debian:12", "ports": [at(8080)]}
    answers = await asyncio.gather(*(api.call("POST", "/v1/sandboxes", body) for _ in range(8)))
    assert sorted(answer.status for answer in answers) == [202] + [409] * 7


async def test_another_programs_port_is_refused_at_once_and_never_chosen(api: Api) -> None:
    await api.image()
    api.agent.held_ports = [{"ip": "0.0.0.0", "host": 22, "protocol": "tcp"}]
    api.agent.held_ports += [{"ip": "127.0.0.1", "host": port, "protocol": "udp"} for port in range(20_001, 30_000)]
    assert "another program of this machine listens on 127.0.0.1:22" in await refused(api, [at(22)])
    box = await api.sandbox(name="one", ports=[at(None)])
    assert [port["host"] for port in box["spec"]["ports"]] == [20_000]
    full = await api.call("POST", "/v1/sandboxes", {"image": "debian:12", "ports": [at(0)]})
    assert (full.status, full.json["error"]["code"]) == (429, "limit_reached")


async def test_an_agent_that_does_not_answer_holds_up_nobody(api: Api) -> None:
    await api.image()
    await api.agent.stop()
    made = await api.call("POST", "/v1/sandboxes", {"image": "debian:12", "ports": [at(8080), at(None)]})
    assert made.status == 202
    assert 20_000 <= made.json["spec"]["ports"][1]["host"] < 30_000


async def test_stopping_gives_it_back_and_starting_asks_for_it_again(api: Api) -> None:
    await api.image()
    await api.sandbox(name="one", ports=[at(8080)])
    assert (await api.call("POST", f"{ONE}/stop?wait_s=30")).json["state"] == "stopped"
    await api.sandbox(name="two", ports=[at(8080)])
    again = await api.call("POST", f"{ONE}/start?wait_s=30")
    assert (again.status, again.json["error"]["code"]) == (409, "in_use")
    assert "published by sandbox two" in again.message
    assert (await api.call("GET", ONE)).json["state"] == "stopped"
    assert (await api.call("DELETE", "/v1/sandboxes/two?wait_s=30")).status == 200
    assert (await api.call("POST", f"{ONE}/start?wait_s=30")).json["state"] == "running"


async def test_one_that_may_be_corrected_gets_another_and_keeps_it(api: Api) -> None:
    await api.image()
    wish = at(8080, auto_correct=True)

    def place(body: Any) -> tuple[int, int | None]:
        [port] = body["spec"]["ports"]
        return port["host"], port["wanted"]

    assert place(await api.sandbox(name="first", ports=[wish])) == (8080, None)
    found, wanted = place(await api.sandbox(name="one", ports=[wish]))
    assert (20_000 <= found < 30_000, wanted) == (True, 8080)
    again = await api.call("POST", f"{ONE}/ports", wish)
    assert (again.status, again.json["error"]["code"]) == (409, "already_exists")
    assert (await api.call("DELETE", "/v1/sandboxes/first?wait_s=30")).status == 200
    assert place((await api.call("PATCH", ONE, {"ports": [wish]})).json) == (found, 8080), "also when it is free again"
    await api.call("POST", f"{ONE}/stop?wait_s=30")
    api.agent.held_ports = [{"ip": "0.0.0.0", "host": found, "protocol": "tcp"}]
    started = (await api.call("POST", f"{ONE}/start?wait_s=30")).json
    assert (started["state"], place(started)[0] != found, place(started)[1]) == ("running", True, 8080)
    [fork] = (await api.call("POST", f"{ONE}/fork?wait_s=30")).json["items"]
    assert place(fork)[1] is None
    added = await api.call("POST", f"{ONE}/ports", at(found, guest=81, auto_correct=True))
    assert (added.json["host"] != found, added.json["wanted"]) == (True, found), "another program has it"


async def test_forks_get_ports_of_their_own(api: Api) -> None:
    await api.image()
    await api.sandbox(name="one", ports=[at(8080), at(9000, guest=81, ip="0.0.0.0", protocol="udp")])
    made = await api.call("POST", f"{ONE}/fork?wait_s=30", {"count": 3})
    assert made.status == 201
    forks = [item["spec"]["ports"] for item in made.json["items"]]
    wanted = [("127.0.0.1", 80, "tcp"), ("0.0.0.0", 81, "udp")]
    assert all([(port["ip"], port["guest"], port["protocol"]) for port in ports] == wanted for ports in forks)
    hosts = [port["host"] for ports in forks for port in ports]
    assert len(set(hosts)) == 6
    assert all(20_000 <= host < 30_000 for host in hosts)


async def test_ports_come_and_go_while_it_runs(api: Api) -> None:
    await api.image()
    box = await api.sandbox(name="one", ports=[at(8080)])
    added = await api.call("POST", f"{ONE}/ports", at(8081, guest=81))
    assert (added.status, added.json["host"], added.json["ip"]) == (201, 8081, "127.0.0.1")
    chosen = await api.call("POST", f"{ONE}/ports", at(None))
    assert 20_000 <= chosen.json["host"] < 30_000
    twice = await api.call("POST", f"{ONE}/ports", at(8081, ip="0.0.0.0"))
    assert (twice.status, twice.json["error"]["code"]) == (409, "already_exists")
    for _ in range(2000):
        order = api.agent.world.boxes[box["id"]].order
        if [port.host for port in order.spec.ports] == [8080, 8081, chosen.json["host"]]:
            break
        await asyncio.sleep(0.01)
    else:
        pytest.fail(f"its machine was told {order.spec.ports}")
    gone = await api.call("DELETE", f"{ONE}/ports/8081")
    assert [port["host"] for port in gone.json["items"]] == [8081]
    again = await api.call("DELETE", f"{ONE}/ports/8081?protocol=tcp&ip=127.0.0.1")
    assert again.status == 404
    assert f"it publishes 127.0.0.1:8080, 127.0.0.1:{chosen.json['host']}" in again.message
    await api.sandbox(name="two", ports=[at(8081)])
    replaced = await api.call("PATCH", ONE, {"ports": [at(8082)]})
    assert [port["host"] for port in replaced.json["spec"]["ports"]] == [8082]
    stolen = await api.call("PATCH", ONE, {"ports": [at(8081)]})
    assert (stolen.status, "sandbox two" in stolen.message) == (409, True)
    same = await api.call("PATCH", ONE, {"ports": [at(8083), at(8083, ip="0.0.0.0")]})
    assert (same.status, same.json["error"]["code"]) == (400, "invalid")
