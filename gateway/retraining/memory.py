"""What the supervisor remembers of each model: one document, moved by compare-and-swap with its place in the stream.

An alert and the offset behind it are written together, so after a crash an alert is neither lost nor taken twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from msgspec import json
from msgspec.structs import replace

from gateway.documents.job import Retraining
from gateway.documents.policy import RetrainingPolicy
from gateway.documents.store import ABSENT, ConfigStore, retraining_name
from gateway.errors import DocumentNotFound
from gateway.journal.journal import START, Offset
from gateway.journal.record import Alert
from gateway.names import ModelName, Revision
from gateway.retraining.triggers import considered, look_again_seconds


@dataclass
class Memory:
    """One model's document as last read or written. offset: how far its alerts were read, saved or not."""

    model: ModelName
    state: Retraining = field(default_factory=Retraining)
    revision: Revision = ABSENT
    offset: Offset = START
    enough_at: int = 0
    """The label count at which a job has enough rows; a lost value is found again."""
    waits_for: int = 0
    """The label count that its cause waited for when it was last looked at; 0: for none."""
    labels: int = 0
    """Labels at the last look, and at an earlier one (count, monotonic seconds), which tells how fast they come."""
    earlier: tuple[int, float] | None = None

    def look_again_seconds(self, now: float, longest: float) -> float:
        """When it is worth another look, as fast as labels come. now: monotonic seconds."""
        labels, then = self.earlier or (self.labels, now)
        if self.earlier is None or now - then >= longest / 2:
            self.earlier = self.labels, now
        missing = self.waits_for - self.labels
        if missing <= 0 or self.labels < labels:
            return longest
        return look_again_seconds(missing, self.labels - labels, now - then, longest)

    @classmethod
    async def load(cls, config: ConfigStore, model: ModelName) -> Memory:
        """What was remembered, or a fresh memory."""
        try:
            document = await config.get(retraining_name(model))
        except DocumentNotFound:
            return cls(model)
        state = json.decode(document.body, type=Retraining)
        return cls(model, state, document.revision, Offset(bytes.fromhex(state.offset)))

    async def save(self, config: ConfigStore, **fields: Any) -> None:
        """Change fields and write them with the present offset. Raises RevisionConflict when another one wrote."""
        state = replace(self.state, offset=self.offset.hex(), **fields)
        if state != self.state or not self.revision:
            self.revision = await config.put(retraining_name(self.model), json.encode(state), self.revision)
            self.state = state


def newest_cause(policy: RetrainingPolicy, alerts: Sequence[Alert], champion: int, state: Retraining) -> dict[str, Any]:
    """The fields to remember when one of these alerts sets something off; {} when none does.

    The newest wins, but a data alert never replaces an error alert that still waits.
    """
    fields: dict[str, Any] = {}
    trigger = state.pending_trigger if state.pending_alert and state.pending_version == champion else ""
    for alert in alerts:
        found = considered(policy, alert, champion)
        if not found or (trigger == "error_drift" and found != "error_drift") or alert.id == state.pending_alert:
            continue
        trigger = found
        fields = {
            "pending_alert": alert.id,
            "pending_trigger": found,
            "pending_version": alert.version,
            "pending_since_ns": alert.since_ns,
            "pending_labels_since": alert.labels_since,
        }
    return fields


NOTHING_PENDING: dict[str, Any] = {
    "pending_alert": "",
    "pending_trigger": "error_drift",
    "pending_version": 0,
    "pending_since_ns": 0,
    "pending_labels_since": 0,
}
"""The fields of a memory without a pending alert."""
