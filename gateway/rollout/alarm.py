"""Alerts about the version on trial: the first one that fails it, read from the control stream.

The same stream gives the same alert, however it is cut: the fold keeps the first that concerns the rollout.
"""

from __future__ import annotations

from gateway.documents.rollout import Rollout
from gateway.journal.journal import ControlJournal, Offset
from gateway.journal.record import Alert
from gateway.names import Role

READ_ENTRIES = 1000


ERROR_KINDS = frozenset({"concept_drift", "performance"})
"""What says that a version is wrong more often than it was when it was made."""


def concerns(alert: Alert, rollout: Rollout) -> bool:
    """True when the alert names the version on trial as a challenger, decides something, and is of a guarded kind.

    Right after its promotion an error alert on it as champion counts too, unless it answers an alert itself: then the
    version before was failing as well, and there is nothing to return to.
    """
    is_about = (alert.model, alert.version) == (rollout.model, rollout.version)
    if is_about and alert.role is Role.CHAMPION:
        return not alert.advisory and alert.kind in ERROR_KINDS and not rollout.answers
    is_challenger = alert.role in {Role.CANARY, Role.SHADOW}
    return is_about and is_challenger and not alert.advisory and alert.kind in rollout.guards.alerts


class Alarms:
    """The fold over the control stream since one rollout began."""

    def __init__(self, rollout: Rollout) -> None:
        self.first: Alert | None = None
        self._rollout = rollout
        self._offset: Offset | None = Offset(bytes.fromhex(rollout.control_offset)) if rollout.control_offset else None

    async def read(self, control: ControlJournal) -> None:
        """Fold everything that is new."""
        started_ns = int(self._rollout.started * 1e9)
        if self._offset is None:
            self._offset = await control.seek(started_ns)
        while self.first is None:
            batch = await control.read(self._offset, READ_ENTRIES)
            for entry in batch.entries:
                is_new = bool(self._rollout.control_offset) or entry.time_ns >= started_ns
                if isinstance(entry.record, Alert) and is_new and concerns(entry.record, self._rollout):
                    self.first = self.first or entry.record
            self._offset = batch.offset
            if len(batch.entries) < READ_ENTRIES:
                return
