"""Whether a secret may do something, checked against the stored tokens; what was read is kept for two seconds."""

from __future__ import annotations

import msgspec

from gateway.clock import Clock
from gateway.documents.store import ConfigStore
from gateway.documents.token import Scope, Token, find_token

_KEPT_SECONDS = 2.0


class TokenCheck:
    """Looks tokens up; a revoked one is refused after at most two seconds."""

    def __init__(self, config: ConfigStore, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._tokens: list[Token] = []
        self._read_at = float("-inf")

    async def __call__(self, secret: str, scope: Scope) -> bool:
        """True when the secret grants the scope now."""
        if self._clock.monotonic() - self._read_at > _KEPT_SECONDS:
            names = await self._config.list("tokens/")
            bodies = [(await self._config.get(name)).body for name in names]
            self._tokens = [msgspec.json.decode(body, type=Token) for body in bodies]
            self._read_at = self._clock.monotonic()
        token = find_token(self._tokens, secret, self._clock.now())
        return token is not None and scope in token.scopes
