"""A client token opens what its scopes say, and a revoked one closes within two seconds."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import cast

import msgspec
import pytest

from gateway.clock import ManualClock
from gateway.documents.store import ABSENT, ConfigStore, Document, token_name
from gateway.documents.token import Scope, Token, hashed
from gateway.errors import QuotaExceeded
from gateway.serving.access import TokenCheck
from gateway.stores import connect_memory


async def test_a_token_grants_its_scopes_until_it_is_revoked() -> None:
    """The serving process keeps what it read, but not for long."""
    clock = ManualClock()
    config = connect_memory(clock).config
    token = Token(name="shop", sha256=hashed("secret"), scopes=(Scope.PREDICT,))
    revision = await config.put(token_name("shop"), msgspec.json.encode(token), ABSENT)
    check = TokenCheck(config, clock)
    assert await check("secret", Scope.PREDICT)
    assert not await check("secret", Scope.OPERATE)
    assert not await check("guess", Scope.PREDICT)
    revoked = msgspec.structs.replace(token, revoked=True)
    await config.put(token_name("shop"), msgspec.json.encode(revoked), revision)
    clock.advance(2.1)
    assert not await check("secret", Scope.PREDICT)


async def test_an_expired_token_grants_nothing() -> None:
    """Also while it is kept in memory."""
    clock = ManualClock()
    config = connect_memory(clock).config
    token = Token(name="t", sha256=hashed("secret"), scopes=(Scope.PREDICT,), expires=clock.now() + 1)
    await config.put(token_name("t"), msgspec.json.encode(token), ABSENT)
    check = TokenCheck(config, clock)
    assert await check("secret", Scope.PREDICT)
    clock.advance(1.5)
    assert not await check("secret", Scope.PREDICT)


async def stored(clock: ManualClock, *tokens: Token) -> ConfigStore:
    config = connect_memory(clock).config
    for token in tokens:
        await config.put(token_name(token.name), msgspec.json.encode(token), ABSENT)
    return config


SHOP = Token(name="shop", sha256=hashed("secret"), scopes=(Scope.PREDICT,), requests_per_second=2.0, burst=2.0)


async def test_a_client_over_its_quota_is_told_who_and_how_long() -> None:
    """And one client's quota is no other client's business."""
    clock = ManualClock()
    other = Token(name="other", sha256=hashed("s2"), scopes=(Scope.PREDICT,))
    check = TokenCheck(await stored(clock, SHOP, other), clock)
    assert await check("secret", Scope.PREDICT)
    assert check.now("secret", Scope.PREDICT)
    with pytest.raises(QuotaExceeded, match=r"client shop .* 2 requests a second, 2 at once") as told:
        await check("secret", Scope.PREDICT)
    assert told.value.retry_after_seconds == pytest.approx(0.5)
    with pytest.raises(QuotaExceeded):
        check.now("secret", Scope.PREDICT)
    assert all(check.now("s2", Scope.PREDICT) for _ in range(100))
    clock.advance(0.5)
    assert check.now("secret", Scope.PREDICT)


async def test_the_quota_goes_on_when_tokens_are_read_again() -> None:
    """Else a client would get a fresh burst every two seconds."""
    clock = ManualClock()
    slow = msgspec.structs.replace(SHOP, requests_per_second=0.01, burst=1.0)
    check = TokenCheck(await stored(clock, slow), clock)
    assert await check("secret", Scope.PREDICT)
    for _ in range(3):
        clock.advance(3.0)
        with pytest.raises(QuotaExceeded):
            await check("secret", Scope.PREDICT)


async def test_what_the_scope_refuses_takes_nothing_from_the_quota() -> None:
    clock = ManualClock()
    check = TokenCheck(await stored(clock, SHOP), clock)
    for _ in range(5):
        assert not await check("secret", Scope.OPERATE)
    assert await check("secret", Scope.PREDICT)
    assert await check("secret", Scope.PREDICT)


async def test_each_of_several_workers_grants_its_share() -> None:
    clock = ManualClock()
    config = await stored(clock, msgspec.structs.replace(SHOP, requests_per_second=8.0, burst=8.0))
    granted = 0
    for check in [TokenCheck(config, clock, workers=4) for _ in range(4)]:
        for _ in range(8):
            with suppress(QuotaExceeded):
                granted += await check("secret", Scope.PREDICT)
    assert granted == 8


async def test_without_waiting_only_what_is_fresh_is_known() -> None:
    """None, and nothing counted: the caller then asks the way that may wait."""
    clock = ManualClock()
    check = TokenCheck(await stored(clock, SHOP), clock)
    assert check.now("secret", Scope.PREDICT) is None
    assert await check("secret", Scope.PREDICT)
    assert check.now("guess", Scope.PREDICT) is False
    clock.advance(2.1)
    for _ in range(5):
        assert check.now("secret", Scope.PREDICT) is None
    assert await check("secret", Scope.PREDICT)
    assert check.now("secret", Scope.PREDICT) is True


async def test_many_requests_at_once_read_the_tokens_once() -> None:
    """When what is kept grows old under load, the stores are asked by one request, not by each."""
    clock = ManualClock()
    config = await stored(clock, Token(name="t", sha256=hashed("secret"), scopes=(Scope.PREDICT,)))
    lists = 0

    class Counting:
        async def list(self, prefix: str) -> Sequence[str]:
            nonlocal lists
            lists += 1
            await asyncio.sleep(0)
            return await config.list(prefix)

        async def get(self, name: str) -> Document:
            return await config.get(name)

    check = TokenCheck(cast(ConfigStore, Counting()), clock)
    assert all(await asyncio.gather(*(check("secret", Scope.PREDICT) for _ in range(20))))
    assert lists == 1
