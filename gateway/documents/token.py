"""Access tokens as documents: only the hash is stored."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class Scope(StrEnum):
    """What a token may do. `predict` is for client programs; the others are for the admin API."""

    PREDICT = "predict"
    READ = "read"
    OPERATE = "operate"
    PUBLISH = "publish"


class Token(Struct, frozen=True, kw_only=True):
    """sha256: hex digest of the secret. expires: seconds since 1970, 0 for never."""

    name: str
    sha256: str
    scopes: tuple[Scope, ...]
    created: float = 0.0
    expires: float = 0.0
    revoked: bool = False
