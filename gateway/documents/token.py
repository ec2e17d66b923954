"""Access tokens as documents: only the hash is stored."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct


class Scope(StrEnum):
    """What a token may do. `predict` is for client programs; the others are for the admin API."""

    PREDICT = "predict"
    READ = "read"
    OPERATE = "operate"
    PUBLISH = "publish"


class Token(Struct, frozen=True, kw_only=True):
    """sha256: hex digest of the secret. expires: seconds since 1970, 0 for never.

    requests_per_second: the quota at the serving API, 0 for none. burst: how many may come at once, 0 without a quota.
    """

    name: str
    sha256: str
    scopes: tuple[Scope, ...]
    created: float = 0.0
    expires: float = 0.0
    revoked: bool = False
    requests_per_second: float = 0.0
    burst: float = 0.0


def hashed(secret: str) -> str:
    """The hex digest under which a secret is stored. Secrets are 256 random bits, so a plain SHA-256 is enough."""
    return hashlib.sha256(secret.encode()).hexdigest()


def find_token(tokens: Iterable[Token], secret: str, now: float) -> Token | None:
    """The live token with this secret. Compares every one, in constant time each."""
    digest = hashed(secret)
    found = None
    for token in tokens:
        is_live = not token.revoked and (token.expires == 0 or now < token.expires)
        if hmac.compare_digest(token.sha256, digest) and is_live:
            found = token
    return found
