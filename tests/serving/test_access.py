"""A client token opens what its scopes say, and a revoked one closes within two seconds."""

from __future__ import annotations

import msgspec

from gateway.clock import ManualClock
from gateway.documents.store import ABSENT, token_name
from gateway.documents.token import Scope, Token, hashed
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
