"""Compressed request bodies: inflated with the same limit that plain bodies have, so a bomb is refused while small."""

from __future__ import annotations

import zlib

from gateway.api.body import UnsupportedEncoding
from gateway.errors import Fault, InvalidInput, PayloadTooLarge

_WINDOWS = {b"gzip": 16 + zlib.MAX_WBITS, b"deflate": zlib.MAX_WBITS}
"""What zlib is told to expect; `deflate` in HTTP means the zlib format (RFC 9110 section 8.4.1.2)."""

ENCODINGS = frozenset(_WINDOWS)


def inflate(body: bytes, encoding: bytes, limit: int) -> bytes:
    """The plain body. encoding: the header's value; empty and `identity` mean plain.

    limit: bytes that may come out. Raises UnsupportedEncoding, PayloadTooLarge, InvalidInput.
    """
    name = encoding.strip().lower()
    if name in (b"", b"identity"):
        return body
    window = _WINDOWS.get(name)
    if window is None:
        raise UnsupportedEncoding("the body must be plain, gzip or deflate: send it without other Content-Encoding")
    parts: list[bytes] = []
    size, rest = 0, body
    while rest or not parts:
        member = zlib.decompressobj(window)
        try:
            part = member.decompress(rest, limit - size + 1)
        except zlib.error:
            raise _broken(name) from None
        size += len(part)
        if size > limit:
            raise PayloadTooLarge(f"the body is over the limit of {limit} bytes when inflated (setting max_body_bytes)")
        if not member.eof:
            raise _broken(name)
        parts.append(part)
        if name == b"deflate" and member.unused_data:
            raise _broken(name)
        rest = member.unused_data
    return b"".join(parts)


def _broken(name: bytes) -> InvalidInput:
    detail = f"says {name.decode()}, but the body is not, or is cut off"
    return InvalidInput(f"header Content-Encoding {detail}", [Fault("header Content-Encoding", detail)])
