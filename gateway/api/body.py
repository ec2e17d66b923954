"""Reading a request's body: its size is limited before and while it is read, and its JSON is taken strictly.

Strict means: UTF-8, no NaN tokens, no numbers out of range, no duplicate keys, no unknown fields, bounded depth; what
is wrong is named with a JSON pointer. Knows nothing of models: features are checked by the contract of the version.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
from starlette.types import Receive, Scope

from gateway.errors import Fault, InvalidInput, PayloadTooLarge, RequestError

T = TypeVar("T")

DEPTH = 32
"""Arrays may lie so deep in one another."""

Scalar = str | int | float | bool | None
Nested = Any  # what the checked type below means to the type checker


def _nested(depth: int) -> Any:
    """Scalars, or lists of them so deep: the decoder itself then refuses what is deeper."""
    kind: Any = Scalar
    for _ in range(depth):
        kind = Scalar | list[kind]
    return kind


NESTED = _nested(DEPTH - 2)

NONE: frozenset[bytes] = frozenset()


class ClientGone(Exception):
    """The caller closed the connection before the body was whole; nobody waits for an answer."""


class BodyTooSlow(RequestError):
    """The body did not arrive in time."""


class HeadersTooSlow(RequestError):
    """The headers did not arrive in time."""


class HeadersTooLarge(RequestError):
    """The request line and the headers are over their limit, or there are too many."""


class MalformedRequest(RequestError):
    """This is not HTTP, or not HTTP that two programs would read in the same way."""


class UnsupportedEncoding(RequestError):
    """The body is compressed; only plain bodies are read."""


async def read_body(
    scope: Scope, receive: Receive, limit: int, seconds: float, encodings: frozenset[bytes] = NONE
) -> bytes:
    """The whole body as it was sent. encodings: compressions that the caller undoes itself.

    Raises PayloadTooLarge, BodyTooSlow, UnsupportedEncoding, InvalidInput, ClientGone.
    """
    _check_headers(scope, limit, encodings)
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body"):
        body: bytes = message.get("body", b"")
        if len(body) > limit:
            raise _too_large(limit)
        return body
    try:
        async with asyncio.timeout(seconds):
            return await _read_rest(message, receive, limit)
    except TimeoutError:
        raise BodyTooSlow(f"the body did not arrive within {seconds:g} s") from None


def _check_headers(scope: Scope, limit: int, encodings: frozenset[bytes]) -> None:
    for name, value in scope["headers"]:
        if name == b"content-length":
            if not value.isdigit():
                raise InvalidInput(
                    "Content-Length is not a number", [Fault("header Content-Length", "must be a number")]
                )
            if len(value) > 15 or int(value) > limit:
                raise _too_large(limit)
        elif name == b"content-encoding" and value not in (b"", b"identity") and value.lower() not in encodings:
            raise UnsupportedEncoding("compressed bodies are not read: send it without Content-Encoding")


async def _read_rest(message: Any, receive: Receive, limit: int) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while True:
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        chunks.append(chunk)
        if not message.get("more_body"):
            return b"".join(chunks)
        message = await receive()


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"the body is over the limit of {limit} bytes (setting max_body_bytes)")


def decode(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """The body as the decoder's type. Raises InvalidInput that names the place. Duplicate keys: `check_keys`."""
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(body, str(error)) from None
    except msgspec.DecodeError as error:
        raise _malformed(body, str(error)) from None
    except UnicodeDecodeError:
        raise InvalidInput("the body is not UTF-8", [Fault("", "must be JSON in UTF-8")]) from None
    except RecursionError:
        raise InvalidInput("the body is nested too deep", [Fault("", f"at most {DEPTH} levels")]) from None


def check_keys(body: bytes, keys: int) -> None:
    """Refuse a body in which a key stands twice in one object. keys: how many the decoded value has.

    A decoder keeps one of two equal keys, and parsers disagree which. Every key is followed by a colon, so equal
    counts prove that none is twice; only otherwise (a colon inside a text, too) the body is read again, slowly.
    """
    if body.count(b":") != keys:
        strict(body)


def strict(body: bytes) -> Any:
    """The decoded body of any shape. Raises InvalidInput: duplicate keys, NaN, numbers out of range, depth."""
    try:
        text = body.decode("utf-8-sig")
        value = json.loads(text, object_pairs_hook=_unique, parse_int=_whole, parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise InvalidInput("the body is not UTF-8", [Fault("", "must be JSON in UTF-8")]) from None
    except json.JSONDecodeError as error:
        raise _malformed(body, f"(byte {len(text[: error.pos].encode())})") from None
    except RecursionError:
        raise InvalidInput("the body is nested too deep", [Fault("", f"at most {DEPTH} levels")]) from None
    except ValueError:
        raise _malformed(body, f"(byte {_first_constant(body)})") from None
    _check_depth(value, DEPTH)
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        name = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise InvalidInput(
            f"the key {name[:100]!r} stands twice", [Fault(f"/{_escape(name)}", "stands twice in one object")]
        )
    return value


def _refuse_constant(token: str) -> Any:
    raise ValueError(f"{token} is not JSON")


def _first_constant(body: bytes) -> int:
    """Where the first NaN or Infinity stands that is no part of a text."""
    found = (match.start() for match in _TEXT_OR_CONSTANT.finditer(body) if not match[0].startswith(b'"'))
    return next(found, len(body))


def _check_depth(value: Any, left: int) -> None:
    if left < 0:
        raise InvalidInput("the body is nested too deep", [Fault("", f"at most {DEPTH} levels")])
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        if isinstance(child, (dict, list)):
            _check_depth(child, left - 1)
        elif isinstance(child, float) and not math.isfinite(child):
            raise InvalidInput("a number is out of range", [Fault("", "numbers must fit 64-bit floating point")])


def _malformed(body: bytes, text: str) -> InvalidInput:
    found = re.search(r"\(byte (\d+)\)", text)
    offset = int(found[1]) if found else len(body)
    token = re.match(
        rb"\s*(-?(?:NaN|Infinity|nan|inf\w*))", body[offset - 1 if body[offset - 1 : offset] == b"-" else offset :]
    )
    pointer = _pointer_at(body, offset)
    if token:
        detail = f"{token[1].decode()} is not JSON; send null where the contract allows a missing value"
    elif not body.strip():
        detail = "the body is empty; send a JSON object"
    elif offset >= len(body):
        detail = "the body ends too early"
    else:
        detail = f"not JSON at byte {offset}"
    return InvalidInput(f"the body is not valid JSON: {detail}", [Fault(pointer, detail)])


_TOKEN = re.compile(rb'"(?:[^"\\]+|\\.)*"?|[{}\[\],:]', re.DOTALL)
"""What structures a JSON text. A text that is not closed is a token too: nothing is ever scanned twice."""

_TEXT_OR_CONSTANT = re.compile(rb'"(?:[^"\\]+|\\.)*"?|-?(?:NaN|Infinity)', re.DOTALL)
_MOST_SCANNED_BYTES = 200_000


def _pointer_at(body: bytes, offset: int) -> str:
    """The JSON pointer of the value in which this byte stands; empty far into a long body: answers stay quick."""
    if offset > _MOST_SCANNED_BYTES:
        return ""
    path: list[str | int] = []  # one step for each open object (its newest key) and array (its place)
    newest = b""
    for found in _TOKEN.finditer(body, 0, offset):
        token = found[0]
        if token in (b"{", b"["):
            path.append("" if token == b"{" else 0)
        elif token in (b"}", b"]"):
            del path[-1:]
        elif token == b"," and path and isinstance(path[-1], int):
            path[-1] += 1
        elif token == b":" and path:
            path[-1] = _escape(_key(newest))
        elif token.startswith(b'"'):
            newest = token
    return "".join(f"/{step}" for step in path if step != "")


def _key(token: bytes) -> str:
    """The text of a JSON string that may be broken itself."""
    try:
        return str(json.loads(token))
    except ValueError:
        return token.strip(b'"').decode("utf-8", "replace")


def _invalid(body: bytes, text: str) -> InvalidInput:
    what, _, path = text.partition(" - at `")
    unknown = re.search(r"(?:unknown|missing required) field `(.+)`", what)
    pointer = _pointer(body, path.rstrip("`"), what)
    if unknown:
        pointer += f"/{_escape(unknown[1])}"
    detail = _plain(what)
    return InvalidInput(f"{pointer or 'the body'}: {detail}", [Fault(pointer, detail)])


def _plain(what: str) -> str:
    if found := re.fullmatch(r"Object contains unknown field `(.+)`", what):
        return f"there is no field {found[1]!r}"
    if found := re.fullmatch(r"Object missing required field `(.+)`", what):
        return "is required"
    if found := re.fullmatch(r"Expected `(.+)`, got `(.+)`", what):
        return f"must be {found[1].replace(' | ', ' or ')}, not {found[2]}"
    return what[:1].lower() + what[1:]


def _pointer(body: bytes, path: str, what: str) -> str:
    """`$.inputs[0][...]` as `/inputs/0/nswprice`: the key behind `[...]` is looked up in the body."""
    parts = re.findall(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]", path)
    if not any(index == "..." for _, index in parts):
        return "".join(f"/{name or index}" for name, index in parts)
    got = re.search(r"got `(\w+)`", what)
    try:
        value = json.loads(body, parse_int=_whole)
    except (ValueError, RecursionError):
        return ""
    return _locate(value, [name or index for name, index in parts], got[1] if got else "")


def _whole(token: str) -> int | float:
    return int(token) if len(token) < 400 else math.inf


_JSON_NAMES = {dict: "object", list: "array", str: "str", bool: "bool", int: "int", float: "float", type(None): "null"}


def _locate(value: Any, path: Sequence[str], got: str) -> str:
    if not path:
        return ""
    step, *rest = path
    if step == "..." and isinstance(value, dict):
        for key, child in value.items():
            if _holds(child, rest, got):
                return f"/{_escape(key)}" + _locate(child, rest, got)
    if isinstance(value, list) and step.isdigit():
        return f"/{step}" + _locate(value[int(step)], rest, got)
    if isinstance(value, dict) and step in value:
        return f"/{step}" + _locate(value[step], rest, got)
    return ""


def _holds(value: Any, path: Sequence[str], got: str) -> bool:
    for step in path:
        if isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        elif not (isinstance(value, dict) and step == "..."):
            return False
    if not got:
        return isinstance(value, float) and not math.isfinite(value)
    return _JSON_NAMES.get(type(value)) == got


def _escape(key: str) -> str:
    return key[:100].replace("~", "~0").replace("/", "~1")
