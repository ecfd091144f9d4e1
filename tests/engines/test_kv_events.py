"""KV events over the wire: what is packed is unpacked, and the real ZeroMQ understands what we send."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.engines import zmtp
from skerry.engines.kv_events import KvEvent, decode, encode
from skerry.engines.msgpack import pack, unpack


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


numbers = st.integers(-(2**63), 2**64 - 1)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.floats(allow_nan=False) | st.text(max_size=300) | st.binary(max_size=300),
    lambda inner: st.lists(inner, max_size=40) | st.dictionaries(st.text(max_size=40), inner, max_size=20),
    max_leaves=60,
)

STORED = KvEvent("stored", (2**64 - 1, 7), 3, tuple(range(32)), 16, "lora")


@settings(max_examples=40, deadline=None)
@given(values)
def test_what_is_packed_is_unpacked(value: Any) -> None:
    assert unpack(pack(value)) == value


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=60))
def test_anything_else_is_a_value_error(data: bytes) -> None:
    try:
        unpack(data)
    except ValueError:
        pass


def test_events_of_every_version_are_read() -> None:
    events = [STORED, KvEvent("removed", (7,)), KvEvent("cleared")]
    assert decode(encode(events, 1.0)) == events
    lists = [1.0, [["BlockStored", [5], None, [1, 2], 2, None], ["BlockRemoved", [5]], ["AllBlocksCleared"]], 0]
    assert decode(pack(lists)) == [
        KvEvent("stored", (5,), None, (1, 2), 2),
        KvEvent("removed", (5,)),
        KvEvent("cleared"),
    ]
    elsewhere = {"type": "BlockRemoved", "block_hashes": [1], "medium": "CPU"}
    assert decode(pack({"ts": 1.0, "events": [elsewhere, {"type": "New"}]})) == []
    for bad in (b"", b"\x01", pack([1]), pack({"events": [3]})):
        with pytest.raises(ValueError):
            decode(bad)


def test_tokens_that_nobody_wants_are_passed_over() -> None:
    tokens = (*range(120, 140), 255, 256, 65_535, 65_536, 2**32 - 1)
    stored = KvEvent("stored", tuple(range(2**63, 2**63 + 20)), 3, tokens, 16)
    assert decode(encode([stored, KvEvent("removed", (7,))], 1.0), tokens=False) == [
        replace(stored, tokens=()),
        KvEvent("removed", (7,)),
    ]
    odd = replace(stored, tokens=(*tokens, -1))
    assert decode(encode([odd], 1.0), tokens=False) == [odd], "not of the kind that is passed over"
    cut = encode([stored], 1.0)[:-200]
    with pytest.raises(ValueError):
        decode(cut, tokens=False)


async def followed(publisher: zmtp.Publisher) -> None:
    async with asyncio.timeout(30):
        while not publisher.followers:  # noqa: ASYNC110
            await asyncio.sleep(0.005)


@pytest.mark.anyio
async def test_who_follows_hears_what_comes_and_what_was_missed_is_replayed() -> None:
    publisher = zmtp.Publisher()
    port, replay_port = await publisher.listen("127.0.0.1", 0, 0)
    heard: list[tuple[int, bytes]] = []

    async def hear() -> None:
        async for number, payload in zmtp.follow("127.0.0.1", port, b"kv"):
            heard.append((number, payload))
            if len(heard) == 2:
                return

    follower = asyncio.create_task(hear())
    publisher.publish(b"kv-events", b"missed")
    await followed(publisher)
    publisher.publish(b"other", b"not for it")
    publisher.publish(b"kv-events", b"a" * 300)
    publisher.publish(b"kv-events", b"b")
    await asyncio.wait_for(follower, 30)
    assert heard == [(2, b"a" * 300), (3, b"b")]
    replayed = [number async for number, _ in zmtp.replay("127.0.0.1", replay_port, 1)]
    assert replayed == [1, 2, 3]
    await publisher.close()


@pytest.mark.anyio
async def test_the_real_zeromq_understands_it() -> None:
    zmq = pytest.importorskip("zmq")
    context = zmq.Context()
    publisher = zmtp.Publisher()
    port, replay_port = await publisher.listen("127.0.0.1", 0, 0)
    socket = context.socket(zmq.SUB)
    socket.setsockopt(zmq.SUBSCRIBE, b"")
    socket.connect(f"tcp://127.0.0.1:{port}")
    await followed(publisher)
    publisher.publish(b"kv-events", encode([STORED], 1.0))
    topic, number, payload = await asyncio.to_thread(socket.recv_multipart)
    assert (topic, number, decode(payload)) == (b"kv-events", bytes(8), [STORED])
    replay = context.socket(zmq.DEALER)
    replay.connect(f"tcp://127.0.0.1:{replay_port}")
    replay.send_multipart((b"", bytes(8)))
    assert (await asyncio.to_thread(replay.recv_multipart))[1] == bytes(8)
    real = context.socket(zmq.PUB)
    real_port = real.bind_to_random_port("tcp://127.0.0.1")
    following = zmtp.follow("127.0.0.1", real_port)
    first = asyncio.create_task(anext(following))
    while not first.done():
        real.send_multipart((b"kv-events", (9).to_bytes(8, "big"), b"x" * 1000))
        await asyncio.sleep(0.01)
    assert first.result() == (9, b"x" * 1000)
    await following.aclose()
    await publisher.close()
    for each in (socket, replay, real):
        each.close(linger=0)
    context.term()
