"""Asking a hook over HTTP: one POST, no redirect, a bounded answer."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator

import httpx
import pytest

from gateway.app.hook import ask_over
from gateway.rollout.confirm import MAX_ANSWER_BYTES, read_answer

URL = "http://h/hook"
YES = b'{"answer": "yes"}'


async def _endless() -> AsyncIterator[bytes]:
    while True:
        yield b"x" * 1000


async def _once(body: bytes) -> AsyncIterator[bytes]:
    yield body


@pytest.mark.parametrize(
    ("reply", "word", "said"),
    [
        (httpx.Response(200, content=_once(YES)), "yes", ""),
        (httpx.Response(307, headers={"Location": "http://elsewhere/"}, content=_once(YES)), "wait", "status 307"),
        (httpx.Response(200, content=_endless()), "wait", "more than 65536 bytes"),
        (
            httpx.Response(200, headers={"Content-Encoding": "gzip"}, content=_once(gzip.compress(YES))),
            "wait",
            "something else",
        ),
    ],
    ids=["yes", "redirect", "endless", "packed"],
)
async def test_what_is_read_of_an_answer(reply: httpx.Response, word: str, said: str) -> None:
    """Not followed, not unpacked, and never more than an answer may have."""
    asked: list[httpx.Request] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return reply

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), follow_redirects=True) as web:
        status, body = await ask_over(web)(URL, b"{}")
    assert len(body) <= MAX_ANSWER_BYTES + 1
    found = read_answer(URL, status, body)
    assert found.word == word
    assert said in found.reason
    assert [(str(one.url), one.method) for one in asked] == [(URL, "POST")]
    assert asked[0].headers["Content-Type"] == "application/cloudevents+json"
