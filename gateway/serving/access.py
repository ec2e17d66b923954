"""Whether a secret may do something, checked against the stored tokens; answers are kept for a few seconds."""

from __future__ import annotations

import hashlib
import hmac

import msgspec

from gateway.clock import Clock
from gateway.documents.store import ConfigStore
from gateway.documents.token import Scope, Token

_KEPT_SECONDS = 2.0


def is_granted(tokens: list[Token], secret: str, scope: Scope, now: float) -> bool:
    """True when one live token has this secret and this scope. Compares in constant time."""
    digest = hashlib.sha256(secret.encode()).hexdigest()
    granted = False
    for token in tokens:
        same = hmac.compare_digest(token.sha256, digest)
        is_live = not token.revoked and (token.expires == 0 or now < token.expires)
        granted |= same and is_live and scope in token.scopes
    return granted


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
        return is_granted(self._tokens, secret, scope, self._clock.now())
