"""The words that every room shares: model names, versions, roles, reasons.

Imports nothing of ours. Everything here is an immutable value.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple, NewType

ModelName = NewType("ModelName", str)
Revision = NewType("Revision", int)
RequestId = NewType("RequestId", str)

_MODEL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_REQUEST_ID = re.compile(r"[\x21-\x7e]{1,128}")

BUCKETS = 10_000
"""How many buckets a route splits its traffic into; one bucket is 0.01 percent."""


class Role(StrEnum):
    """What a version is to a route."""

    CHAMPION = "champion"
    CANARY = "canary"
    SHADOW = "shadow"
    PREVIOUS = "previous"


class Reason(StrEnum):
    """Why this version answered this request."""

    WEIGHT = "weight"
    STICKY = "sticky"
    RULE = "rule"
    PINNED = "pinned"
    FIRST = "first"
    FALLBACK_VERSION = "fallback_version"
    FALLBACK_VALUE = "fallback_value"
    CACHE = "cache"


class Lookup(StrEnum):
    """What the response cache did for a request. Every answered request counts as exactly one of them."""

    HIT = "hit"
    MISS = "miss"
    BYPASS = "bypass"


class Outcome(StrEnum):
    """How one run of a version ended."""

    OK = "ok"
    ERROR = "error"
    DEADLINE = "deadline"


class VersionId(NamedTuple):
    """One immutable version of a model, written `electricity@3`."""

    model: ModelName
    number: int

    def __str__(self) -> str:
        return f"{self.model}@{self.number}"

    @classmethod
    def parse(cls, text: str) -> VersionId:
        """Read `electricity@3`. Raises ValueError when the text is anything else."""
        name, at, number = text.rpartition("@")
        if not at or not number.isdecimal() or int(number) < 1:
            raise ValueError(f"{text!r} is not a version; write MODEL@NUMBER, for example electricity@3")
        return cls(model_name(name), int(number))


def model_name(text: str) -> ModelName:
    """The text as a model name. Raises ValueError with the allowed form."""
    if not _MODEL_NAME.fullmatch(text):
        raise ValueError(
            f"{text[:120]!r} is not a model name; use letters, digits, '_', '.', '-', at most 100, "
            "starting with a letter or a digit"
        )
    return ModelName(text)


def is_request_id(text: str) -> bool:
    """True when the text may be a request id: 1 to 128 visible ASCII characters."""
    return _REQUEST_ID.fullmatch(text) is not None
