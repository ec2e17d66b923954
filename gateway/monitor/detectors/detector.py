"""What every detector promises. Detectors know numbers only: no journal, no clock, no model.

1. `update` takes values in stream order; the same values in any chunks give the same alarms at the same events.
2. `restored(state())` is a detector that goes on exactly like this one (the identity), in another process too.
3. An alarm names the event that fired (`Verdict.event`, counted from 1 since the detector was new).
4. On a stream like its reference a detector stays silent (within its stated false-alarm rate).
5. A missing value (NaN) is no evidence, unless missing values are what the detector watches.

Each promise is a check that runs against every detector (tests/monitor/test_detector_promises.py).
"""

from __future__ import annotations

from typing import Protocol, Self

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


class Verdict(Struct, frozen=True):
    """What a detector says after some values.

    evidence, threshold: on the detector's own scale; it alarms at evidence >= threshold. event: the event that fired
    or the last one seen. since: the first event behind the estimated change, 0 when unknown. kind: of the alert, where
    the detector tells kinds apart. features: (name, evidence) of what moved, largest first; detail: the same in words.
    """

    evidence: float
    threshold: float
    alarmed: bool
    event: int
    since: int = 0
    kind: str = ""
    features: tuple[tuple[str, float], ...] = ()
    detail: str = ""


class Detector(Protocol):
    """See the module's promises."""

    @property
    def events(self) -> int:
        """How many events it has seen."""

    def update(self, values: FloatArray) -> Verdict:
        """Take values of shape (n,) or (n, columns), float64. At most one alarm is told: the first."""

    def state(self) -> bytes:
        """Everything it remembers."""

    def restored(self, state: bytes) -> Self:
        """A detector with the same settings that goes on from this state."""
