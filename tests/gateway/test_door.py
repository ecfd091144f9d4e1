"""Who is let in, what everybody else is told, and what goes on while control is down."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from skerry.model.sandbox import S
from skerry.model.url import Route, RouteNews
from tests.gateway.conftest import KEY, OK, OPEN, WEB, World, body, status

pytestmark = pytest.mark.anyio
PAGE = "Accept: text/html,*/*;q=0.8"
WRONG_KEY = "sk_" + "b" * 64


@pytest.mark.parametrize(
    ("host", "shown", "wanted"),
    [
        (OPEN, [], 200),
        (OPEN, [f"Authorization: Bearer {WRONG_KEY}"], 200),
        (WEB, [], 401),
        (WEB, [f"Authorization: Bearer {KEY}"], 200),
        (WEB.upper(), [f"Authorization: bearer  {KEY}"], 200),
        ("sb-0123456789ab--80.boxes.test", [f"Authorization: Bearer {KEY}"], 200),
        (WEB, [f"Authorization: Bearer {WRONG_KEY}"], 401),
        (WEB, [f"Authorization: Basic {KEY}"], 401),
        (WEB, [f"X-Authorization: Bearer {KEY}"], 401),
        ("foreign--80.boxes.test", [f"Authorization: Bearer {KEY}"], 401),
        ("nobody--80.boxes.test", [f"Authorization: Bearer {KEY}"], 404),
        ("web--0.boxes.test", [], 404),
        ("web--65536.boxes.test", [], 404),
        ("web--080.boxes.test", [], 404),
        ("web--٣.boxes.test", [], 400),
        ("web.boxes.test", [], 404),
        ("boxes.test", [], 404),
        ("127.0.0.1", [], 404),
        ("localhost:7070", [f"Authorization: Bearer {KEY}"], 404),
        ("web--80.boxes.test.evil.test", [f"Authorization: Bearer {KEY}"], 404),
        ("x.web--80.boxes.test", [f"Authorization: Bearer {KEY}"], 404),
    ],
)
async def test_keys(world: World, host: str, shown: list[str], wanted: int) -> None:
    answer = await world.get("/v1/sandboxes", host, *shown)
    assert status(answer) == wanted, answer
    assert len(world.heads) == (wanted == 200)
    if wanted != 200:
        assert json.loads(body(answer))["error"]["message"]


async def test_links(world: World) -> None:
    good, late = world.token(), world.token(expires=int(time.time()) - 1)
    for token, wanted in (
        (good, 200),
        (late, 401),
        (world.token(port=81), 401),
        (world.token(box="sb-ba9876543210"), 401),
        (good[:-1] + ("A" if good[-1] != "A" else "B"), 401),
        (good.replace("4000000000", "4000000001"), 401),
        ("", 401),
        (".", 401),
        ("9" * 400, 401),
    ):
        assert status(await world.get(f"/?skerry_token={token}", WEB)) == wanted, token
        assert status(await world.get("/", WEB, f"Cookie: skerry_url={token}")) == wanted, token
    left = "; ".join(["skerry_url=left-by-another-host", f"skerry_url={good}"])
    assert status(await world.get("/", WEB, f"Cookie: {left}")) == 200


async def test_a_link_gives_a_cookie_for_this_host_and_leaves_the_address_bar(world: World) -> None:
    token = world.token()
    fetched = await world.get(f"/a?x=1&skerry_token={token}", WEB)
    assert status(fetched) == 200
    [cookie] = [line for line in fetched.decode().split("\r\n") if line.startswith("Set-Cookie")]
    assert cookie.startswith(f"Set-Cookie: skerry_url={token}; Path=/; Max-Age=")
    assert cookie.endswith("; HttpOnly; SameSite=Lax")
    assert "Domain" not in cookie
    browsed = await world.get(f"//evil.test/a?skerry_token={token}&x=1", WEB, PAGE)
    assert status(browsed) == 302
    assert f"\r\nLocation: http://{WEB}//evil.test/a?x=1\r\n".encode() in browsed
    assert b"Set-Cookie: skerry_url=" in browsed
    assert len(world.heads) == 1, "the sandbox never sees the token"


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ([f"Origin: http://{WEB}"], 200),
        (["Origin: http://web--3000.boxes.test"], 200),
        (["Origin: http://open--80.boxes.test"], 403),
        (["Origin: https://evil.test"], 403),
        (["Origin: null"], 403),
        (["Sec-Fetch-Site: same-site", "Sec-Fetch-Mode: no-cors"], 403),
        (["Sec-Fetch-Site: cross-site", "Sec-Fetch-Mode: navigate"], 200),
        (["Sec-Fetch-Site: same-origin", "Sec-Fetch-Mode: cors"], 200),
    ],
)
async def test_a_cookie_is_of_no_use_to_other_pages(world: World, given: list[str], wanted: int) -> None:
    assert status(await world.get("/", WEB, f"Cookie: skerry_url={world.token()}", *given)) == wanted


@pytest.mark.parametrize(
    ("refusal", "wanted", "say"),
    [
        ({"code": "conflict", "message": "the sandbox does not run; start it first"}, 503, "sandbox open does not run"),
        ({"code": "not_found", "message": "this machine has no sandbox"}, 503, "sandbox open does not run"),
        (
            {"code": "unavailable", "message": "nobody listens on port 80 in the sandbox"},
            503,
            "nobody listens on port 80 in sandbox open",
        ),
        ({"code": "invalid", "message": "port"}, 500, "the agent of this machine did not understand the gateway"),
    ],
)
async def test_why_nobody_answers(world: World, refusal: dict[str, str], wanted: int, say: str) -> None:
    world.refusal = {"error": refusal}
    answer = await world.get()
    assert status(answer) == wanted
    assert json.loads(body(answer))["error"]["message"] == say
    page = await world.get("/", OPEN, PAGE)
    assert b"Content-Type: text/html; charset=utf-8" in page
    assert (say[0].upper() + say[1:]).encode() in page


async def test_names_follow_what_control_says(world: World) -> None:
    async def becomes(host: str, wanted: int) -> None:
        async with asyncio.timeout(30):
            while status(await world.get("/", host)) != wanted:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    renamed = Route(id="sb-ba9876543210", name="shop", project="default", state=S.RUNNING, public=True)
    world.news.put_nowait(RouteNews(route=renamed))
    await becomes("shop--80.boxes.test", 200)
    assert status(await world.get()) == 404
    world.news.put_nowait(RouteNews(route=renamed.model_copy(update={"public": False})))
    await becomes("shop--80.boxes.test", 401)
    world.news.put_nowait(RouteNews(gone=renamed.id))
    await becomes("shop--80.boxes.test", 404)


async def test_while_control_is_down_what_is_known_goes_on_and_nothing_new_is_believed(world: World) -> None:
    with_key = f"Authorization: Bearer {KEY}"
    assert status(await world.get("/", WEB, with_key)) == 200
    await world.stop_control()
    world.gateway._door._keys._projects = {
        hashed: (-1e9, project) for hashed, (_, project) in world.gateway._door._keys._projects.items()
    }
    assert status(await world.get("/", WEB, with_key)) == 200
    assert status(await world.get("/", OPEN)) == 200
    unknown = await world.get("/", WEB, f"Authorization: Bearer {WRONG_KEY}")
    assert status(unknown) == 503
    assert b"Retry-After: 1" in unknown


async def test_a_key_is_asked_about_once_in_a_while(world: World) -> None:
    for _ in range(5):
        assert status(await world.get("/", WEB, f"Authorization: Bearer {KEY}")) == 200
    assert world.keys_asked == 1


async def test_strangers_wake_a_sandbox_only_so_often(world: World) -> None:
    world.asleep = True
    world.answering(OK)
    found = [await world.get() for _ in range(8)]
    assert [status(each) for each in found] == [200] * 6 + [429] * 2
    assert b"\r\nRetry-After: " in found[-1]
    key = f"Authorization: Bearer {KEY}"
    assert [status(await world.get("/", OPEN, key)) for _ in range(8)] == [200] * 8
    world.asleep = False
    assert status(await world.get()) == 200


async def test_many_who_come_for_one_wake_count_as_one(world: World) -> None:
    world.asleep = True
    world.woken.clear()
    world.answering(OK)
    asked = [asyncio.ensure_future(world.get()) for _ in range(40)]
    async with asyncio.timeout(30):
        while sum(bool(each["wake"]) for each in world.asked) < 40:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    world.woken.set()
    found = await asyncio.gather(*asked)
    assert [status(each) for each in found] == [200] * 40
    assert [status(await world.get()) for _ in range(6)] == [200] * 5 + [429]
