"""How rollouts ask their hooks over HTTP: one POST, no redirects, and no more of the answer than can be one."""

from __future__ import annotations

import httpx

from gateway.documents.cloud_event import CONTENT_TYPE
from gateway.rollout.confirm import MAX_ANSWER_BYTES
from gateway.rollout.hooks import Ask

_HEADERS = {"Content-Type": CONTENT_TYPE, "Accept-Encoding": "identity"}


def ask_over(web: httpx.AsyncClient) -> Ask:
    """Posts through this client; at most one byte more than an answer may have is read, and nothing is unpacked.

    How long a reply may take as a whole is the caller's to say, who cancels what takes longer.
    """

    async def ask(url: str, body: bytes) -> tuple[int, bytes]:
        found = bytearray()
        async with web.stream(
            "POST", url, content=body, headers=_HEADERS, timeout=None, follow_redirects=False
        ) as reply:
            async for chunk in reply.aiter_raw():
                found += chunk[: MAX_ANSWER_BYTES + 1 - len(found)]
                if len(found) > MAX_ANSWER_BYTES:
                    break
            return reply.status_code, bytes(found)

    return ask
