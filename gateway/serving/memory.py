"""Whether one more version fits: measured when it is loaded, never guessed from the size of its file.

What counts is the resident memory of this process, libraries and all, and by how much each runner grew when it loaded
its version.
"""

from __future__ import annotations

from collections.abc import Callable


class Memory:
    """The memory of one serving process with its runners. limit_bytes: None is no limit."""

    def __init__(self, limit_bytes: int | None, resident: Callable[[], int], runners: Callable[[], int]) -> None:
        self._limit_bytes = limit_bytes
        self._resident = resident
        self._runners = runners

    def refusal(self) -> str:
        """Why what was loaded last has to go again; empty: it fits."""
        if self._limit_bytes is None:
            return ""
        used = self._resident() + self._runners()
        if used <= self._limit_bytes:
            return ""
        return (
            f"it does not fit: with it this process and its runners would hold {used} bytes, "
            f"the setting memory_bytes allows {self._limit_bytes}"
        )
