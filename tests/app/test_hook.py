"""Asking a hook over HTTP: one POST, no redirect, a bounded answer."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator

import httpx
import pytest

from gateway.app.hook import ask_over
from gateway.clock import SystemClock
from gateway.documents.hook import Hook
from gateway.names import ModelName
from gateway.rollout.confirm import MAX_ANSWER_BYTES, read_answer
from gateway.rollout.hooks import Hooks

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


class _ToldClock(SystemClock):
    """Its sleeps end when the test says so."""

    def __init__(self) -> None:
        self.is_over = asyncio.Event()

    async def sleep(self, seconds: float) -> None:
        await self.is_over.wait()


async def test_a_hook_that_takes_the_question_and_says_nothing_is_hung_up_on() -> None:
    """Over a real connection: after its time the answer counts as wait, and nothing is left open."""
    asked, hung_up, clock = asyncio.Event(), asyncio.Event(), _ToldClock()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n{")
        asked.set()
        await reader.read()
        hung_up.set()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    hook = Hook(url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", on=("before_step",), confirm=True)
    async with httpx.AsyncClient() as web, server:
        hooks, model = Hooks(ask_over(web), clock), ModelName("m")
        assert hooks.answers(model, 1, [hook], b"{}")[0].reason == "is being asked"
        await asyncio.wait_for(asked.wait(), 10)
        assert hooks.answers(model, 1, [hook], b"{}")[0].reason == "is being asked"
        clock.is_over.set()
        await asyncio.wait_for(hung_up.wait(), 10)
        for _ in range(100):
            answer = hooks.answers(model, 1, [hook], b"{}")[0]
            if answer.reason != "is being asked":
                break
            await asyncio.sleep(0)
        await hooks.close()
    assert (answer.word, answer.reason) == ("wait", "did not answer within 5 s")
