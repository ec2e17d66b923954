"""From a key to one of 10,000 buckets. Pure; the same in every process, every language (tests/vectors/routing.json).

bucket = first 8 bytes (big-endian) of BLAKE2b(digest size 8, key = salt) of the key's UTF-8 text, modulo 10,000.
Source: RFC 7693 (BLAKE2, keyed hashing).
"""

from __future__ import annotations

from functools import lru_cache
from hashlib import blake2b

from gateway.names import BUCKETS


def bucket(salt: str, key: str) -> int:
    """The bucket (0..9,999) of a key under a route's salt. Salts are cut to the 64 bytes that BLAKE2b takes."""
    keyed = _keyed(salt).copy()
    keyed.update(key.encode())
    return int.from_bytes(keyed.digest(), "big") % BUCKETS


@lru_cache(maxsize=1024)
def _keyed(salt: str) -> blake2b:
    """The hash before the key: its first block is the salt's alone, and costs as much as a key."""
    return blake2b(digest_size=8, key=salt.encode()[:64])


def sampled(salt: str, version: int, request: str, buckets: int) -> bool:
    """True when a shadow with a share of so many buckets gets a copy of this request (by its prediction id)."""
    if buckets >= BUCKETS:
        return True
    return buckets > 0 and bucket(salt, f"shadow:{version}:{request}") < buckets
