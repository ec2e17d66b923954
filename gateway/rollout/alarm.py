"""Alerts about the version on trial: the first one that fails it, read from the control stream.

The same stream gives the same alert, however it is cut: the fold keeps the first that concerns the rollout.
"""

from __future__ import annotations

from gateway.documents.rollout import Rollout
from gateway.journal.journal import ControlJournal, Offset
from gateway.journal.record import Alert
from gateway.names import Role

READ_ENTRIES = 1000


def concerns(alert: Alert, rollout: Rollout) -> bool:
    """True when the alert is about the version on trial, decides something, and speaks against it.

    As a challenger: of a guarded kind, and the champion does not show the same. As the new champion: only when the
    monitor calls it a bad release, which it does where the last champion is fine on the same rows.
    """
    if (alert.model, alert.version) != (rollout.model, rollout.version) or alert.advisory:
        return False
    if alert.role in {Role.CANARY, Role.SHADOW}:
        return alert.kind in rollout.guards.alerts and alert.response != "watch"
    return alert.role is Role.CHAMPION and alert.verdict == "bad_release"


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
