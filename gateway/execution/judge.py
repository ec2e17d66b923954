"""Judges values one by one and says what is wrong with each: the slow path of the contract, and all its words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from gateway.documents.policy import FieldHandling
from gateway.errors import Fault, InvalidInput
from gateway.execution.column import TEXTS, TRUTHS, WHOLE, Column
from gateway.execution.tensors import MOST_FAULTS


class Judge:
    """Judges single values by the contract; collects faults and flags."""

    def __init__(self, columns: Sequence[Column], *, nan_is_missing: bool = False) -> None:
        self._columns = columns
        self._nan_is_missing = nan_is_missing
        self._faults: list[Fault] = []
        self._flags: dict[str, None] = {}

    @property
    def flags(self) -> tuple[str, ...]:
        """What was let through, each once."""
        return tuple(self._flags)

    def fault(self, pointer: str, detail: str) -> None:
        """Note a fault. Raises InvalidInput when there are too many to go on."""
        self._faults.append(Fault(pointer, detail))
        if len(self._faults) >= MOST_FAULTS:
            self.finish()

    def finish(self) -> None:
        """Raise InvalidInput when there are faults."""
        if self._faults:
            raise refused(self._faults)

    def sort(self, place: int, value: Any, pointer: str) -> Any:
        """The value the model gets. None: missing and let through."""
        column = self._columns[place]
        if value is None:
            return self._missing(column, pointer, column.on_missing)
        if type(value) not in column.types and not (column.is_integer and type(value) is float and value.is_integer()):
            self.fault(pointer, f"must be {_word(column)}, not {_shown(value)}")
            return None
        if isinstance(value, float) and not math.isfinite(value):
            return self._non_finite(column, value, pointer)
        if column.is_integer and type(value) is float:
            value = int(value)
        judged = self._in_range(column, self._known_category(column, value, pointer), pointer)
        return float(judged) if type(judged) is int and not column.is_integer and abs(judged) >= WHOLE else judged

    def _missing(self, column: Column, pointer: str, handling: FieldHandling) -> Any:
        if column.absent is None:
            self.fault(pointer, f"is missing; it must be {_word(column)}")
        elif column.feature.may_be_missing:
            return None
        elif handling == "reject":
            self.fault(pointer, "is missing")
        else:  # nothing to clip to: clip is flag
            self._flags["missing"] = None
        return None

    def _non_finite(self, column: Column, value: float, pointer: str) -> Any:
        if math.isnan(value) and self._nan_is_missing:
            return self._missing(column, pointer, "flag")
        if self._nan_is_missing:  # an infinite number in a binary tensor: exact, and outside every range
            return self._outside(column, value, pointer)
        self.fault(pointer, "must be a finite number")
        return None

    def _known_category(self, column: Column, value: Any, pointer: str) -> Any:
        if column.categories is not None and value not in column.categories:
            if column.on_unseen == "reject":
                self.fault(pointer, f"{_shown(value)} is not one of the known categories")
            else:  # nothing to clip to: clip is flag
                self._flags["unseen_category"] = None
        return value

    def _in_range(self, column: Column, value: Any, pointer: str) -> Any:
        if column.low is None or column.high is None or column.low <= value <= column.high:
            return value
        return self._outside(column, value, pointer)

    def _outside(self, column: Column, value: Any, pointer: str) -> Any:
        low, high = column.low, column.high
        if low is None or high is None:
            return value
        if column.on_range == "reject":
            self.fault(pointer, f"{_shown(value)} is outside {_range(low, high)}")
            return None
        if column.on_range == "clip":
            self._flags["out_of_range"] = None
            return min(max(value, low), high)
        if not column.bound_low <= value <= column.bound_high and not self._nan_is_missing:
            self.fault(pointer, f"is too large for {_word(column)} here")
            return None
        self._flags["out_of_range"] = None
        return value


def refused(faults: Sequence[Fault]) -> InvalidInput:
    """The error that tells these faults, the first of them in its own text."""
    shown = list(faults[:MOST_FAULTS])
    more = "" if len(faults) == 1 else f" (and {len(faults) - 1} more)"
    return InvalidInput(f"{shown[0].pointer} {shown[0].detail}{more}", shown)


def escaped(name: str) -> str:
    """RFC 6901 section 3; long names are cut."""
    return str(name)[:200].replace("~", "~0").replace("/", "~1")


def _word(column: Column) -> str:
    if column.types is TEXTS:
        return "a text"
    if column.types is TRUTHS:
        return "true or false"
    return "a whole number" if column.is_integer else "a number"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "an object"
    return str(value)[:40] if not isinstance(value, int) or abs(value) < 10**40 else "a very large number"


def _range(low: float, high: float) -> str:
    return f"{low:g} to {high:g}"
