"""river's drift detectors (ADWIN, KSWIN, PageHinkley, the binary ones ...) behind our `Detector` protocol.

A second opinion beside the panel and the error detector: by default shown, deciding nothing. river is imported at the
first use (it takes a second, scikit-learn included), so a process that watches nothing never loads it.

State: see `thaw`. One that this river can not read is dropped: the detector starts again, its alerts
so far stay.

Sources: Bifet and Gavalda, ADWIN, 2007; Raab et al., KSWIN, 2020; Page, 1954; Gama et al., DDM, 2004.
"""

from __future__ import annotations

import importlib
import inspect
import math
from collections.abc import Mapping
from typing import Any, Self

import msgspec
from msgspec import Struct

from gateway.errors import Fault, InvalidConfig
from gateway.monitor.detectors.detector import FloatArray, Verdict
from gateway.monitor.detectors.thaw import frozen, thawed

_WATCH_A_FALL = frozenset({"FHDDM"})
"""Classes that alarm when their input falls (river's FHDDM takes hits, not errors): they are fed 1 - value."""

_RECENT = 1 / 50
"""How much one event moves the recent mean, which tells a rise from a fall."""


class _State(Struct, array_like=True):
    events: int
    mean: float
    recent: float
    river: bytes


class SecondOpinion:
    """One class of river.drift by its own name.

    parameters: its keyword arguments. rising: an alarm counts only while the recent mean is above the whole one (for
    errors, where a fall is good news). Raises InvalidConfig when river has no such class or refuses the parameters.
    """

    def __init__(
        self, name: str, parameters: Mapping[str, float] | None = None, *, rising: bool = False, state: bytes = b""
    ) -> None:
        self._name = name
        self._parameters = dict(parameters or {})
        self._rising = rising
        made = _make(name, self._parameters)
        kept = msgspec.msgpack.decode(state, type=_State) if state else _State(0, 0.0, 0.0, b"")
        self._events, self._mean, self._recent = kept.events, kept.mean, kept.recent
        self._river = thawed(kept.river, type(made)) or made

    @property
    def events(self) -> int:
        return self._events

    def update(self, values: FloatArray) -> Verdict:
        alarm: Verdict | None = None
        for value in values.tolist():
            if self._take(value) and alarm is None:
                width = int(getattr(self._river, "width", 0) or 0)
                since = max(1, self._events - width + 1) if width else 0
                alarm = Verdict(1.0, 1.0, True, self._events, since)
        return alarm or Verdict(0.0, 1.0, False, self._events)

    def state(self) -> bytes:
        return msgspec.msgpack.encode(_State(self._events, self._mean, self._recent, frozen(self._river)))

    def restored(self, state: bytes) -> Self:
        return type(self)(self._name, self._parameters, rising=self._rising, state=state)

    def _take(self, value: float) -> bool:
        self._events += 1
        if not math.isfinite(value):
            return False
        self._mean += (value - self._mean) / self._events
        self._recent += (value - self._recent) * max(_RECENT, 1 / self._events)
        self._river.update(1 - value if self._name in _WATCH_A_FALL else value)
        return bool(self._river.drift_detected) and (not self._rising or self._recent > self._mean)


def _make(name: str, parameters: Mapping[str, float]) -> Any:
    drift, base = importlib.import_module("river.drift"), importlib.import_module("river.base")
    known = {
        key: value
        for module in (drift, drift.binary)
        for key, value in vars(module).items()
        if inspect.isclass(value) and issubclass(value, (base.DriftDetector, base.BinaryDriftDetector))
    }
    if name not in known:
        listed = ", ".join(sorted(known))
        raise InvalidConfig(f"river has no detector {name!r}; it has {listed}", [Fault("river", f"no {name!r}")])
    given: dict[str, Any] = {k: int(v) if float(v).is_integer() else v for k, v in parameters.items()}
    if "seed" in inspect.signature(known[name]).parameters:
        given.setdefault("seed", 0)  # the same journal must give the same alerts
    try:
        return known[name](**given)
    except (TypeError, ValueError) as error:
        raise InvalidConfig(f"river's {name}: {error}", [Fault("parameters", str(error))]) from error
