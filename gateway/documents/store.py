"""The port for small revisioned documents, and the names under which they are kept.

An implementation promises, each with a contract test:

1. `put` writes only when the document is at the `expected` revision; 0 means: it must not exist. Of concurrent
   writers exactly one wins, the others get RevisionConflict.
2. The document and its audit entry are written in one transaction: both or none, also after kill -9. The entry is
   numbered without gaps and carries its hash (`gateway.documents.chain`), behind whatever entry came before it.
3. Revisions grow over the whole store; a revision is never given twice.
4. What `put` returned is on the disk.
5. `watch` is a hint to look again. It may repeat, and it may name documents that did not change; it does not miss
   a change for longer than a second.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, Protocol

from msgspec import Struct

from gateway.names import ModelName, Revision, VersionId


class Document(NamedTuple):
    """A body (JSON text in UTF-8) and the revision to write against."""

    body: bytes
    revision: Revision


class AuditEntry(Struct, frozen=True, kw_only=True):
    """Who did what to which document, from what to what, and why. The store gives `number`, `time` and `hash`.

    hash: binds the entry to the one before (`gateway.documents.chain`); empty where it was written before there was
    a chain.
    """

    actor: str
    action: str
    subject: str
    reason: str = ""
    before: str = ""
    after: str = ""
    number: int = 0
    time: float = 0.0
    hash: str = ""


class ConfigStore(Protocol):
    """Small documents with compare-and-swap, and the audit trail."""

    async def get(self, name: str) -> Document:
        """The document now. Raises DocumentNotFound."""

    async def list(self, prefix: str) -> Sequence[str]:
        """Names that start with `prefix`, sorted."""

    async def put(self, name: str, body: bytes, expected: Revision, audit: AuditEntry | None = None) -> Revision:
        """Write and return the new revision. Raises RevisionConflict."""

    async def audit(self, after: int, limit: int) -> Sequence[AuditEntry]:
        """Entries with a number above `after`, oldest first."""

    def watch(self, prefix: str) -> AsyncIterator[str]:
        """Names under `prefix` that may have changed since the call, for ever."""


ABSENT = Revision(0)
"""The expected revision of a document that must not exist yet."""


def policy_name(model: ModelName) -> str:
    """What people decided about a model (`documents.policy`)."""
    return f"policies/{model}"


def route_name(model: ModelName) -> str:
    """Which versions answer now (`documents.route`)."""
    return f"routes/{model}"


def proposal_name(model: ModelName) -> str:
    """The route that serving processes are asked to prepare (`documents.lease`)."""
    return f"proposals/{model}"


def rollout_name(model: ModelName) -> str:
    """The rollout under way or the last one (`documents.rollout`)."""
    return f"rollouts/{model}"


def freeze_name(model: ModelName) -> str:
    """Whether automatic acts are stopped for a model (`documents.rollout`)."""
    return f"freezes/{model}"


def gateway_name(gateway: str) -> str:
    """The leased document of one serving process (`documents.lease`)."""
    return f"gateways/{gateway}"


def job_name(job: str) -> str:
    """One retraining job (`documents.job`)."""
    return f"jobs/{job}"


def retraining_name(model: ModelName) -> str:
    """What the retraining supervisor remembers of a model (`documents.job`)."""
    return f"retraining/{model}"


def alert_name(alert: str) -> str:
    """What people did about an alert: acknowledged, silenced (`documents.alert`)."""
    return f"alerts/{alert}"


def monitoring_name(model: ModelName) -> str:
    """The monitor's latest summary of a model (`documents.alert`)."""
    return f"monitoring/{model}"


def condition_name(version: VersionId) -> str:
    """What happened to a version: suspect, quarantined, rolled back (`documents.lease`)."""
    return f"conditions/{version}"


def token_name(name: str) -> str:
    """A hashed token with its scopes (`documents.token`)."""
    return f"tokens/{name}"
