"""Tokens: secrets shown once, stored hashed, found in constant time; the first one in a private file."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.api.token import create_token, find, first_token, read_tokens, revoke_token
from gateway.clock import ManualClock
from gateway.documents.store import token_name
from gateway.documents.token import Scope, Token, find_token, hashed
from gateway.errors import DocumentNotFound, InvalidConfig, NotAllowed
from gateway.stores import connect_memory


async def test_only_the_hash_of_a_secret_is_stored() -> None:
    """Who reads the store can not act as the token's owner."""
    clock = ManualClock()
    config = connect_memory(clock).config
    secret = await create_token(config, "ci", [Scope.PUBLISH], clock)
    assert len(secret) >= 43  # 256 bits
    body = (await config.get(token_name("ci"))).body
    assert secret.encode() not in body
    assert hashed(secret).encode() in body
    entries = await config.audit(0, 10)
    assert [entry.action for entry in entries] == ["token.create"]
    assert secret not in str(entries)


async def test_names_are_checked_and_not_reused() -> None:
    clock = ManualClock()
    config = connect_memory(clock).config
    await create_token(config, "ci", [Scope.READ], clock)
    with pytest.raises(NotAllowed, match="exists already"):
        await create_token(config, "ci", [Scope.READ], clock)
    for name in ("", "../x", "a b"):
        with pytest.raises(InvalidConfig):
            await create_token(config, name, [Scope.READ], clock)
    with pytest.raises(InvalidConfig, match="at least one scope"):
        await create_token(config, "none", [], clock)
    with pytest.raises(DocumentNotFound):
        await revoke_token(config, "nobody", "test")


def test_expired_and_revoked_tokens_are_not_found() -> None:
    good = Token(name="good", sha256=hashed("s"), scopes=(Scope.READ,), expires=100.0)
    gone = Token(name="gone", sha256=hashed("r"), scopes=(Scope.READ,), revoked=True)
    tokens = [good, gone]
    assert find_token(tokens, "s", 99.0) == good
    assert find_token(tokens, "s", 100.0) is None
    assert find_token(tokens, "r", 1.0) is None
    assert find_token(tokens, "", 1.0) is None


async def test_the_first_token_is_kept_while_it_is_good_and_private(tmp_path: Path) -> None:
    """A restart must not lock people out; a lost or revoked one must not lock them out for ever."""
    clock = ManualClock()
    config = connect_memory(clock).config
    path = tmp_path / "data" / "admin-token"
    secret = await first_token(config, path, clock)
    assert path.read_text().strip() == secret
    assert path.stat().st_mode & 0o777 == 0o600
    assert await first_token(config, path, clock) == secret
    token = await find(config, secret, clock.now())
    assert token is not None
    assert set(token.scopes) == set(Scope)
    path.unlink()
    second = await first_token(config, path, clock)
    assert second != secret
    assert await find(config, secret, clock.now()) is None
    await revoke_token(config, "first", "test")
    third = await first_token(config, path, clock)
    assert await find(config, third, clock.now()) is not None
    assert [token.name for token in await read_tokens(config)] == ["first"]


async def test_a_file_that_others_could_read_is_replaced_not_reused(tmp_path: Path) -> None:
    """An attacker who made the file first, or left a link there, gets nothing."""
    clock = ManualClock()
    config = connect_memory(clock).config
    path = tmp_path / "admin-token"
    path.write_text("planted")
    path.chmod(0o666)
    secret = await first_token(config, path, clock)
    assert secret != "planted"
    assert path.stat().st_mode & 0o777 == 0o600
