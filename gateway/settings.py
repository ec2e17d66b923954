"""One frozen value with every setting: flag, then GATEWAY_*, then gateway.yaml, then default.

Read once at start by the command line; passed down as a value. No other module reads the environment.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from gateway.errors import Fault, InvalidConfig

Role = Literal["serving", "control"]


class Address(BaseModel):
    """A host and a port; port 0 takes a free one."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    host: str
    port: int = Field(ge=0, le=65535)

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read HOST:PORT or [IPv6]:PORT. Raises ValueError."""
        host, colon, port = text.rpartition(":")
        if not colon or not port.isdecimal():
            raise ValueError(f"{text!r} is not HOST:PORT")
        return cls(host=host.strip("[]") or "127.0.0.1", port=int(port))

    @property
    def is_loopback(self) -> bool:
        """True when only this machine reaches the address."""
        return self.host in {"localhost", "::1"} or self.host.startswith("127.")

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Settings(BaseModel):
    """Every setting of a gateway. Durations are seconds, sizes bytes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Path = Field(default=Path("gateway-data"), description="directory of all stores")
    config: Path = Field(default=Path("router_config"), description="folder of policy files")
    models: Path = Field(default=Path("models"), description="folder of recipes")
    listen: Address = Field(default=Address(host="127.0.0.1", port=8080), description="serving address")
    admin_listen: Address = Field(default=Address(host="127.0.0.1", port=8081), description="admin address")
    workers: int = Field(default=1, ge=1, le=64, description="serving processes")
    roles: tuple[Role, ...] = Field(default=("serving", "control"), min_length=1, description="what this command runs")
    client_auth: bool = Field(default=False, description="/predict and /feedback need a token with scope predict")
    feedback_auth: Literal["auto", "off"] = Field(
        default="auto",
        description="auto: /feedback needs a token when the serving address is beyond loopback",
    )
    metrics_token: bool = Field(default=False, description="/metrics needs a token with scope read")
    max_body_bytes: int = Field(default=8 * 1024 * 1024, ge=1024, description="largest request body")
    max_package_bytes: int = Field(default=1024**3, ge=1024, description="largest package that can be published")
    header_seconds: float = Field(default=5.0, gt=0, description="time for a request's headers")
    body_seconds: float = Field(default=10.0, gt=0, description="time for a request's body")
    stall_seconds: float = Field(default=10.0, gt=0, description="a caller who does not read for so long is cut off")
    edge: Literal["fast", "asgi"] = Field(
        default="fast",
        description="fast: predictions are answered before ASGI is entered; asgi: everything goes through it",
    )
    middleware: tuple[str, ...] = Field(
        default=(), description="ASGI middleware around the serving application, module:name each, the outermost first"
    )
    grace_seconds: float = Field(default=10.0, gt=0, description="time to finish requests at shutdown")
    shadow_queue: int = Field(default=1000, ge=1, description="shadow copies waiting at most, per process")
    inline_microseconds: int = Field(default=1000, ge=0, description="models faster than this run in the event loop")
    wait_milliseconds: int = Field(
        default=250, ge=1, description="a request that would wait longer before it runs is refused (503)"
    )
    threads: int = Field(default=2, ge=1, description="threads for models that do not run in the event loop")
    memory_bytes: int | None = Field(
        default=None, ge=2**20, description="memory of a serving process and its runners; versions beyond are refused"
    )
    segment_bytes: int = Field(default=16 * 1024 * 1024, ge=65536, description="size of a journal segment")
    sync_seconds: float = Field(default=0.05, gt=0, description="the journal reaches the disk at most so late")
    keep_seconds: float = Field(default=30 * 86400.0, gt=0, description="age at which journal segments are deleted")
    admission_seconds: float = Field(default=20.0, gt=0, description="time limit of a publish check")
    admission_bytes: int = Field(default=2 * 1024**3, ge=2**28, description="memory limit of a publish check")
    log_level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="what is logged")

    @field_validator("listen", "admin_listen", mode="before")
    @classmethod
    def _reads_address(cls, value: Any) -> Any:
        return Address.parse(value) if isinstance(value, str) else value

    @field_validator("roles", "middleware", mode="before")
    @classmethod
    def _reads_list(cls, value: Any) -> Any:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def read_settings(flags: Mapping[str, Any], environment: Mapping[str, str], file: Path | None) -> Settings:
    """Merge the four sources. flags: only those given (None is left out). Raises InvalidConfig naming each field."""
    merged: dict[str, Any] = {**_from_file(file), **_from_environment(environment)}
    merged |= {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings.model_validate(merged)
    except ValidationError as error:
        faults = [Fault(".".join(map(str, e["loc"])), e["msg"]) for e in error.errors()]
        text = "; ".join(f"{fault.pointer}: {fault.detail}" for fault in faults)
        raise InvalidConfig(f"settings: {text}", faults) from error


def _from_environment(environment: Mapping[str, str]) -> dict[str, str]:
    names = {f"GATEWAY_{name.upper()}": name for name in Settings.model_fields}
    return {names[key]: value for key, value in environment.items() if key in names}


def _from_file(file: Path | None) -> dict[str, Any]:
    if file is None or not file.exists():
        return {}
    try:
        content = YAML(typ="safe").load(file.read_text()) or {}
    except YAMLError as error:
        raise InvalidConfig(f"{file}: {error}") from error
    if not isinstance(content, dict):
        raise InvalidConfig(f"{file}: must be a mapping of settings")
    return content
