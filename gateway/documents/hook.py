"""Hooks of a policy: who is told of a rollout, or asked about its steps."""

from __future__ import annotations

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gateway.documents.duration import Seconds

Moment = Literal["before_step", "before_promotion", "after_roll_back", "event"]


class Hook(BaseModel):
    """Who is told of a rollout, or asked about its steps (`confirm`: the answer counts)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    url: str
    on: Annotated[tuple[Moment, ...], Field(min_length=1)]
    timeout: Seconds = 5.0
    confirm: bool = False

    @field_validator("url")
    @classmethod
    def _is_a_web_address(cls, url: str) -> str:
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError where it is none
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError("must be an address such as http://127.0.0.1:9000/hook")
        return url

    @field_validator("timeout")
    @classmethod
    def _is_short(cls, timeout: float) -> float:
        if not 0 < timeout <= 60:
            raise ValueError("must be above 0 and at most 60s")
        return timeout

    @model_validator(mode="after")
    def _asks_before_something(self) -> Self:
        if self.confirm and not set(self.on) <= {"before_step", "before_promotion"}:
            raise ValueError(
                "confirm goes with before_step and before_promotion only; list other moments in a second hook"
            )
        return self


def shown(url: str) -> str:
    """The URL without name, password and query, which may hold secrets."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.hostname}{f':{parts.port}' if parts.port else ''}{parts.path}"
