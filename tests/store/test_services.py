"""Services, tokens and use in the database: guarded, counted once, and never more than a limit over all gateways."""

from __future__ import annotations

import asyncio
import os
from datetime import timedelta
from typing import Any

import pytest

from skerry.errors import AlreadyExists, NotFound
from skerry.model.identity import make_id
from skerry.model.replica import ReplicaOf
from skerry.model.service import REVISIONS_KEPT, Revision, Service, ServiceSpec, ServiceState
from skerry.model.token import Limits, Metered, Token, TokenSpec
from skerry.model.traffic import Take, UsageReport
from skerry.store.store import Store
from skerry.store.tokens import make_token_secret
from skerry.store.transaction import PROJECT
from tests.store.conftest import StillClock
from tests.store.records import add_sandbox

pytestmark = pytest.mark.anyio


async def add_service(store: Store, name: str, **spec: Any) -> Service:
    async with store.write() as tx:
        wanted = ServiceSpec(name=name, **{"image": "debian:12", "port": 80, **spec})
        service = Service(
            id=make_id("service", os.urandom(6)),
            project=PROJECT,
            name=name,
            state=ServiceState.ACTIVE,
            spec=wanted,
            created_at=tx.now,
            updated_at=tx.now,
        )
        operation = tx.operations.new("service.create", service.id, PROJECT)
        service = service.model_copy(update={"operation": operation.id})
        await tx.services.insert([service], [operation])
    return service


async def add_token(store: Store, name: str, **spec: Any) -> tuple[Token, str]:
    secret = make_token_secret(os.urandom(32))
    async with store.write() as tx:
        token = Token(
            id=make_id("token", os.urandom(6)),
            project=PROJECT,
            name=name,
            spec=TokenSpec(name=name, **spec),
            hint=secret[-4:],
            created_at=tx.now,
        )
        return await tx.tokens.create(token, secret), secret


async def test_a_name_is_free_again_and_revisions_are_kept_to_a_number(store: Store) -> None:
    first = await add_service(store, "chat", secrets=[{"name": "s", "env": "S"}], labels={"a": "b"})
    with pytest.raises(AlreadyExists):
        await add_service(store, "chat")
    async with store.write() as tx:
        for number in range(1, REVISIONS_KEPT + 4):
            made = Revision(service=first.id, number=number, spec=first.spec, created_at=tx.now)
            await tx.services.add_revision(made, kept=[1])
    async with store.read() as tx:
        numbers = [each.number for each in await tx.services.revisions(first.id)]
        assert numbers == [1, *range(4, REVISIONS_KEPT + 4)], "the one in production stays, however old"
        assert await tx.services.users_of_image("debian:12") == ["chat"]
        assert await tx.services.users_of("secrets", "s") == ["chat"]
        assert (await tx.services.list(PROJECT, labels={"a": "c"}, limit=5)).items == []
    async with store.write() as tx:
        deleting = await tx.services.move(first, ServiceState.DELETING, "deleting")
        assert deleting is not None
    second = await add_service(store, "chat")
    async with store.write() as tx:
        assert await tx.services.move(deleting, ServiceState.DELETED, "deleted") is not None
        assert (await tx.services.find("chat", PROJECT)).id == second.id
        assert [each.id for each in await tx.services.all()] == [second.id]


async def test_replicas_are_found_by_their_service_and_hidden_where_sandboxes_are_listed(store: Store) -> None:
    replica = ReplicaOf(service="svc-000000000001", number=1, revision=1)
    box = await add_sandbox(store, "svc-000000000001-1", replica=replica)
    await add_sandbox(store, "own")
    async with store.read() as tx:
        assert [each.id for each in await tx.sandboxes.of_service(replica.service)] == [box.id]
        assert [each.name for each in (await tx.sandboxes.list(PROJECT, limit=9)).items] == ["own"]
        assert len((await tx.sandboxes.list(PROJECT, jobs=True, limit=9)).items) == 2


async def test_a_token_is_known_by_its_secret_until_it_is_revoked(store: Store) -> None:
    token, secret = await add_token(store, "alice")
    with pytest.raises(AlreadyExists):
        await add_token(store, "alice")
    async with store.write() as tx:
        found = await tx.tokens.with_secret(secret)
        assert found is not None
        assert (found.id, found.revoked_at) == (token.id, None)
        assert await tx.tokens.with_secret(secret[:-1] + "x") is None
        revoked = await tx.tokens.revoke(found)
        assert await tx.tokens.revoke(revoked) == revoked
        with pytest.raises(NotFound):
            await tx.tokens.find("alice", PROJECT)
        assert (await tx.tokens.find(token.id, PROJECT)).revoked_at is not None
        assert (await tx.tokens.list(PROJECT, limit=9)).items == []
    await add_token(store, "alice")


async def test_use_is_counted_once_however_often_it_is_told(store: Store, clock: StillClock) -> None:
    token, _ = await add_token(store, "alice")
    hour = clock.now()
    metered = Metered(
        service="chat", model="m", client="alice", hour=hour, requests=2, prompt_tokens=10, completion_tokens=5
    )
    for number in (1, 1, 2, 1):
        async with store.write() as tx:
            report = UsageReport(
                gateway="g", number=number, metered=[metered, metered], spent={token.id: 30, "key-1": 9}
            )
            counted = await tx.metering.count(report)
        assert counted is (number == 2 or counted)
    async with store.read() as tx:
        [found] = await tx.metering.list(service="chat", since=hour - timedelta(hours=1), limit=9)
        assert (found.requests, found.prompt_tokens, found.completion_tokens) == (8, 40, 20)
        assert (await tx.tokens.find("alice", PROJECT)).spent == 60


async def test_gateways_that_tell_and_take_at_the_same_moment_are_each_counted_once(
    store: Store, clock: StillClock
) -> None:
    token, _ = await add_token(store, "alice")
    other, _ = await add_token(store, "bob")
    limits = Limits(requests_per_minute=10, concurrency=3)
    used = [
        Metered(service=service, model="m", client=client, hour=clock.now(), requests=1, prompt_tokens=1)
        for service, client in (("a", "bob"), ("b", "alice"), ("c", "bob"))
    ]

    async def one(gateway: str, number: int) -> tuple[int, int]:
        async with store.write() as tx:
            metered = used if number % 2 else used[::-1]
            spent = {token.id: 1, other.id: 2} if number % 2 else {other.id: 2, token.id: 1}
            await tx.metering.count(UsageReport(gateway=gateway, number=number, metered=metered, spent=spent))
        async with store.write() as tx:
            given = await tx.metering.take(Take(gateway=gateway, client=token.id, requests=1, concurrency=2), limits, 0)
        return given.requests, given.concurrency

    given = await asyncio.gather(*(one(gateway, number) for number in range(8) for gateway in "gh"))
    assert sum(requests for requests, _ in given) == 10
    assert max(held for _, held in given) == 2
    async with store.read() as tx:
        found = await tx.metering.list(service="b", since=clock.now() - timedelta(hours=1), limit=9)
        assert [each.requests for each in found] == [16]
        assert [(await tx.tokens.find(name, PROJECT)).spent for name in ("alice", "bob")] == [16, 32]


async def test_no_minute_has_more_than_its_limit_over_all_gateways(store: Store, clock: StillClock) -> None:
    token, _ = await add_token(store, "alice")
    limits = Limits(requests_per_minute=10, tokens_per_minute=100, concurrency=3, budget_tokens=120)

    async def take(gateway: str, requests: int, tokens: int, concurrency: int) -> tuple[int, int, int]:
        asked = Take(gateway=gateway, client=token.id, requests=requests, tokens=tokens, concurrency=concurrency)
        async with store.write() as tx:
            spent = (await tx.tokens.find(token.id, PROJECT)).spent
            given = await tx.metering.take(asked, limits, spent)
        assert 0 < given.for_s <= 5
        return given.requests, given.tokens, given.concurrency

    assert await take("a", 6, 60, 2) == (6, 60, 2)
    assert await take("b", 6, 60, 2) == (4, 40, 1)
    assert await take("a", 1, 1, 2) == (0, 0, 2), "it holds what it holds, and no more on top"
    clock.move(6)
    assert await take("b", 0, 0, 3) == (0, 0, 3), "who asks no longer holds nothing any more"
    clock.move(60)
    async with store.write() as tx:
        await tx.tokens.spend(token.id, 10)
    assert await take("b", 1, 50, 0) == (1, 50, 0)
    assert await take("a", 1, 70, 0) == (1, 50, 0), "what is left of the minute"
    clock.move(61)
    assert await take("a", 1, 70, 0) == (1, 70, 0), "what the other one has not said again is nobody's any more"


async def test_a_budget_is_given_once_though_what_is_used_of_it_is_told_later(store: Store, clock: StillClock) -> None:
    token, _ = await add_token(store, "alice")

    async def take(gateway: str, tokens: int, set_aside: int) -> tuple[int, int | None]:
        asked = Take(gateway=gateway, client=token.id, tokens=tokens, set_aside=set_aside)
        async with store.write() as tx:
            spent = (await tx.tokens.find(token.id, PROJECT)).spent
            given = await tx.metering.take(asked, Limits(budget_tokens=100), spent)
        return given.tokens, given.budget_left

    assert await take("a", 40, 0) == (40, 60)
    assert await take("b", 40, 0) == (40, 20)
    assert await take("a", 40, 40) == (20, 0), "it has used what it was given, and has not told"
    assert await take("b", 1, 40) == (0, 0)
    async with store.write() as tx:
        await tx.tokens.spend(token.id, 10)  # a's, and the rest of what it had it does not need
    assert await take("a", 0, 0) == (0, 50)
    clock.move(61)
    assert await take("a", 95, 0) == (90, 0), "b is gone"
