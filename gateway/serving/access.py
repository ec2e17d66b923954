"""Whether a secret may do something now: its token's scopes and quota; what was read is kept for two seconds.

A look at what is kept costs microseconds: one hash, one lookup, one bucket. The stores are asked by one request at a
time, the others wait for it.
"""

from __future__ import annotations

import asyncio
import hmac

import msgspec
from msgspec import Struct

from gateway.clock import Clock
from gateway.documents.store import ConfigStore
from gateway.documents.token import Scope, Token, hashed
from gateway.errors import QuotaExceeded
from gateway.serving.quota import Buckets, Quota

_KEPT_SECONDS = 2.0


class _Known(Struct, frozen=True):
    """One token in force. quota: this process's share, None for no limit."""

    token: Token
    quota: Quota | None


class TokenCheck:
    """Looks tokens up; a revoked one is refused after at most two seconds, a changed quota counts as soon."""

    def __init__(self, config: ConfigStore, clock: Clock, workers: int = 1) -> None:
        """workers: processes among which callers spread; each grants its share of every quota."""
        self._config = config
        self._clock = clock
        self._workers = workers
        self._known: dict[str, _Known] = {}
        self._read_at = float("-inf")
        self._reading = asyncio.Lock()
        self._buckets = Buckets()

    async def __call__(self, secret: str, scope: Scope) -> bool:
        """True when the secret grants the scope now; that is one request of its quota. Raises QuotaExceeded."""
        if not self._is_fresh():
            async with self._reading:
                if not self._is_fresh():
                    await self._read()
        return self._judge(secret, scope)

    def now(self, secret: str, scope: Scope) -> bool | None:
        """The same from what is kept, without waiting. None: what is kept is too old, so nothing was counted."""
        return self._judge(secret, scope) if self._is_fresh() else None

    def _is_fresh(self) -> bool:
        return self._clock.monotonic() - self._read_at <= _KEPT_SECONDS

    async def _read(self) -> None:
        names = await self._config.list("tokens/")
        tokens = [msgspec.json.decode((await self._config.get(name)).body, type=Token) for name in names]
        in_force = [token for token in tokens if not token.revoked]
        self._known = {token.sha256: _Known(token, _share(token, self._workers)) for token in in_force}
        self._buckets.keep({token.name for token in in_force})
        self._read_at = self._clock.monotonic()

    def _judge(self, secret: str, scope: Scope) -> bool:
        digest = hashed(secret)
        # Looking up a digest tells nothing about secrets: nobody can choose one whose digest begins as they like.
        known = self._known.get(digest)
        if known is None or not hmac.compare_digest(known.token.sha256, digest):
            return False
        token = known.token
        if scope not in token.scopes or (token.expires and self._clock.now() >= token.expires):
            return False
        if known.quota is not None:
            wait = self._buckets.take(token.name, known.quota, self._clock.monotonic())
            if wait > 0:
                raise QuotaExceeded(token.name, token.requests_per_second, token.burst, wait)
        return True


def _share(token: Token, workers: int) -> Quota | None:
    if not token.requests_per_second:
        return None
    return Quota(token.requests_per_second, token.burst).share(workers)
