"""The one error tree. Errors carry fields; none of them knows HTTP (`gateway.api.problems` maps them).

GatewayError
  RequestError            the caller's fault; carries the places that are wrong
    InvalidInput          a field of the body is wrong
    ModelNotFound         no such model is served
    VersionNotLoaded      a pinned version is not loaded here
    PayloadTooLarge       the body is over its limit
    QuotaExceeded         a client asks more often than its token allows; carries who, what and retry_after_seconds
  Unavailable             try again; carries retry_after_seconds
    DeadlineExceeded      the answer was not ready in time
    Overloaded            more is waiting than can be answered in time, or than the policy lets run at once
  ExecutionError          the model failed on these inputs
  ConfigError
    InvalidConfig         a policy, route, recipe or settings text is wrong; carries the places
    DocumentNotFound
    RevisionConflict      somebody else wrote first
    RouteRefused          a serving process could not prepare the route; carries who and why
    NotAllowed            the present state does not allow this (no rollout under way, frozen ...)
  RegistryError
    VersionNotFound
    VersionExists
    CorruptPackage
    AdmissionRefused      the package is whole, but may not be served; carries the reasons
  JournalError
    JournalUnavailable    a record could not be written
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple


class Fault(NamedTuple):
    """One wrong place: a JSON pointer (`/inputs/0/nswprice`) or `file:line: key`, and what is wrong with it."""

    pointer: str
    detail: str


class GatewayError(Exception):
    """The root. `str(error)` is a sentence for a person."""


class RequestError(GatewayError):
    """The caller's fault."""

    def __init__(self, detail: str, faults: Sequence[Fault] = ()) -> None:
        super().__init__(detail)
        self.faults = tuple(faults)


class InvalidInput(RequestError):
    """A field of the request is wrong."""


class ModelNotFound(RequestError):
    """No such model is served here."""


class VersionNotLoaded(RequestError):
    """The pinned version is not loaded."""


class PayloadTooLarge(RequestError):
    """The body is over its limit."""


class QuotaExceeded(RequestError):
    """The client's token allows fewer requests; `client` is its name. Try again after `retry_after_seconds`."""

    def __init__(self, client: str, requests_per_second: float, burst: float, retry_after_seconds: float) -> None:
        quota = f"{requests_per_second:g} requests a second, {burst:g} at once"
        super().__init__(f"client {client} is over the quota of its token: {quota}")
        self.client = client
        self.requests_per_second = requests_per_second
        self.burst = burst
        self.retry_after_seconds = retry_after_seconds


class Unavailable(GatewayError):
    """Not now; try again after `retry_after_seconds`."""

    def __init__(self, detail: str, retry_after_seconds: float = 1.0) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class DeadlineExceeded(Unavailable):
    """The deadline passed before the answer was ready."""


class Overloaded(Unavailable):
    """More is waiting than can be answered in time, or more is under way than the policy allows."""


class ExecutionError(GatewayError):
    """The model failed on these inputs. The text never holds internals of the runtime."""


class ConfigError(GatewayError):
    """Something about configuration."""


class InvalidConfig(ConfigError):
    """A text that people write is wrong; `faults` name file, line and key."""

    def __init__(self, detail: str, faults: Sequence[Fault] = ()) -> None:
        super().__init__(detail)
        self.faults = tuple(faults)


class DocumentNotFound(ConfigError):
    """No document has this name."""

    def __init__(self, name: str, detail: str = "") -> None:
        super().__init__(detail or f"there is no document {name!r}")
        self.name = name


class RevisionConflict(ConfigError):
    """The document is not at the expected revision any more."""

    def __init__(self, name: str, expected: int, actual: int) -> None:
        super().__init__(f"{name} is at revision {actual}, not {expected}: read it again and repeat the change")
        self.name = name
        self.expected = expected
        self.actual = actual


class RouteRefused(ConfigError):
    """At least one serving process could not prepare the route; nothing changed."""

    def __init__(self, detail: str, refusals: Mapping[str, str]) -> None:
        super().__init__(detail)
        self.refusals = dict(refusals)


class NotAllowed(ConfigError):
    """The present state does not allow this act."""


class RegistryError(GatewayError):
    """Something about versions."""


class VersionNotFound(RegistryError):
    """The registry has no such version."""


class VersionExists(RegistryError):
    """The same model and contract are already published; `existing` names the version."""

    def __init__(self, existing: str) -> None:
        super().__init__(f"the same package is already published as {existing}")
        self.existing = existing


class CorruptPackage(RegistryError):
    """Files are missing, damaged or do not match their digest."""


class AdmissionRefused(RegistryError):
    """The package may not be served; `reasons` say why."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = tuple(reasons)


class JournalError(GatewayError):
    """Something about the journal."""


class JournalUnavailable(JournalError):
    """A record could not be written (disk full, device gone)."""
