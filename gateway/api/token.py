"""Making, finding and revoking access tokens. A secret is shown once; only its hash is stored."""

from __future__ import annotations

import math
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

import msgspec

from gateway.clock import Clock
from gateway.documents.store import ABSENT, AuditEntry, ConfigStore, token_name
from gateway.documents.token import Scope, Token, find_token, hashed
from gateway.errors import DocumentNotFound, Fault, InvalidConfig, NotAllowed, RevisionConflict
from gateway.names import Revision, model_name

FIRST = "first"
"""The name of the token that `gateway serve` writes to DIR/admin-token."""
MOST_DAYS = 36500
LEAST_RATE, MOST_RATE = 0.001, 1e6


async def read_tokens(config: ConfigStore) -> list[Token]:
    """All tokens, revoked ones too, by name."""
    names = await config.list("tokens/")
    return [msgspec.json.decode((await config.get(name)).body, type=Token) for name in names]


async def find(config: ConfigStore, secret: str, now: float) -> Token | None:
    """The live token with this secret."""
    return find_token(await read_tokens(config), secret, now)


async def create_token(
    config: ConfigStore,
    name: str,
    scopes: Sequence[Scope],
    clock: Clock,
    *,
    days: float | None = None,
    requests_per_second: float | None = None,
    burst: float | None = None,
    actor: str = "gateway",
) -> str:
    """Store a new token and return its secret. Raises NotAllowed (name taken) or InvalidConfig.

    requests_per_second, burst: the quota at the serving API, None for no limit and for one second's worth.
    """
    try:
        model_name(name)
    except ValueError:
        raise _invalid("/name", "must have letters, digits, '_', '.', '-', at most 100") from None
    if not scopes:
        raise _invalid("/scopes", f"must name at least one scope of {', '.join(Scope)}")
    if days is not None and not 0 < days <= MOST_DAYS:
        raise _invalid("/days", f"must be above 0 and at most {MOST_DAYS}")
    rate, most = checked_quota(requests_per_second, burst)
    secret, now = new_secret(), clock.now()
    expires = now + days * 86400 if days is not None else 0.0
    token = Token(
        name=name,
        sha256=hashed(secret),
        scopes=tuple(dict.fromkeys(scopes)),
        created=now,
        expires=expires,
        requests_per_second=rate,
        burst=most,
    )
    quota = f", {rate:g} requests a second, {most:g} at once" if rate else ""
    entry = AuditEntry(actor=actor, action="token.create", subject=name, after=" ".join(token.scopes) + quota)
    try:
        await config.put(token_name(name), msgspec.json.encode(token), ABSENT, entry)
    except RevisionConflict:
        raise NotAllowed(f"a token named {name} exists already; choose another name") from None
    return secret


def checked_quota(requests_per_second: float | None, burst: float | None) -> tuple[float, float]:
    """Rate and burst as they are stored, (0, 0) for no limit. Raises InvalidConfig."""
    if requests_per_second is None:
        if burst is not None:
            raise _invalid("/burst", "needs requests_per_second")
        return 0.0, 0.0
    if not LEAST_RATE <= requests_per_second <= MOST_RATE:
        raise _invalid("/requests_per_second", f"must be {LEAST_RATE:g} to {MOST_RATE:g}")
    most = max(1.0, requests_per_second) if burst is None else burst
    if not (math.isfinite(most) and 1 <= most <= MOST_RATE):
        raise _invalid("/burst", f"must be 1 to {MOST_RATE:g}")
    return float(requests_per_second), float(most)


def _invalid(pointer: str, detail: str) -> InvalidConfig:
    return InvalidConfig(f"{pointer} {detail}", [Fault(pointer, detail)])


async def revoke_token(config: ConfigStore, name: str, actor: str) -> None:
    """Put the token out of force; it stays in the list. Raises DocumentNotFound."""
    token, revision = await get_token(config, name)
    revoked = msgspec.structs.replace(token, revoked=True)
    entry = AuditEntry(actor=actor, action="token.revoke", subject=name)
    await config.put(token_name(name), msgspec.json.encode(revoked), revision, entry)


async def get_token(config: ConfigStore, name: str) -> tuple[Token, Revision]:
    """One token, revoked or not. Raises DocumentNotFound."""
    try:
        document = await config.get(token_name(name))
    except DocumentNotFound:
        raise DocumentNotFound(token_name(name), f"there is no token {name[:100]!r}") from None
    return msgspec.json.decode(document.body, type=Token), document.revision


async def first_token(config: ConfigStore, path: Path, clock: Clock) -> str:
    """The secret of the first admin token, in a file only its owner can read; made anew when it is no longer good."""
    kept = _read(path)
    if kept:
        token = await find(config, kept, clock.now())
        if token is not None and set(Scope) <= set(token.scopes):
            return kept
    secret = new_secret()
    token = Token(name=FIRST, sha256=hashed(secret), scopes=tuple(Scope), created=clock.now())
    # The file comes first: a secret in a file that is not stored opens nothing; the other way round nobody has it.
    _write(path, secret)
    await _replace(config, token)
    return secret


async def _replace(config: ConfigStore, token: Token) -> None:
    try:
        revision = (await config.get(token_name(token.name))).revision
    except DocumentNotFound:
        revision = ABSENT
    entry = AuditEntry(actor="gateway", action="token.create", subject=token.name, after=" ".join(token.scopes))
    await config.put(token_name(token.name), msgspec.json.encode(token), revision, entry)


def new_secret() -> str:
    """256 random bits as text."""
    return secrets.token_urlsafe(32)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _write(path: Path, secret: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secret + "\n")
    fresh.replace(path)
