"""Whether one more version fits: by what it was measured to take, never guessed from the size of its file.

What counts is the resident memory of this process, libraries and all, and by how much each runner grew when it loaded
its version. What a version takes is known before it is loaded when this process has loaded it before, or when
admission has measured it (`Manifest.memory_bytes`); where it is not, the measure after loading decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from gateway.registry.manifest import Manifest

_MOST_KNOWN = 1000


class Memory:
    """The memory of one serving process with its runners. limit_bytes: None is no limit. Used from one event loop."""

    def __init__(self, limit_bytes: int | None, resident: Callable[[], int], runners: Callable[[], int]) -> None:
        self._limit_bytes = limit_bytes
        self._resident = resident
        self._runners = runners
        self._under_way: list[Load] = []
        self._begun = 0
        self._known: dict[str, int] = {}

    def refusal(self) -> str:
        """Why what was loaded last has to go again; empty: it fits."""
        return self._refusal(0)

    def expected_bytes(self, manifest: Manifest) -> int:
        """What the version is known to take; 0 when nobody has measured it."""
        return self._known.get(manifest.digest, manifest.memory_bytes)

    @contextmanager
    def loading(self, manifest: Manifest) -> Iterator[Load]:
        """While the version is loaded its expected bytes count as used, so that loads side by side do not all fit."""
        self._begun += 1
        self._under_way.append(load := Load(self, manifest, self._begun))
        try:
            yield load
        finally:
            self._under_way.remove(load)

    def refusal_before(self, load: Load) -> str:
        """Why this load must not begin; empty: it fits, or nobody knows."""
        return self._refusal(sum(one.expected_bytes for one in self._under_way)) if load.expected_bytes else ""

    def used_bytes(self) -> int:
        """What this process and its runners hold now."""
        return self._resident() + self._runners()

    @property
    def is_limited(self) -> bool:
        """False: nothing needs to be measured."""
        return self._limit_bytes is not None

    @property
    def is_idle(self) -> bool:
        """True while no load is under way."""
        return not self._under_way

    def is_alone(self, load: Load) -> bool:
        """True when no other load is under way, and none began since."""
        return self._under_way == [load] and self._begun == load.number

    def learn(self, digest: str, size_bytes: int) -> None:
        """Remember what a version took. Of two measures the larger one: memory that lay free hides what is used."""
        self._known[digest] = max(size_bytes, self._known.pop(digest, 0))
        if len(self._known) > _MOST_KNOWN:
            del self._known[next(iter(self._known))]

    def _refusal(self, coming_bytes: int) -> str:
        if self._limit_bytes is None:
            return ""
        used = self.used_bytes() + coming_bytes
        if used <= self._limit_bytes:
            return ""
        return (
            f"it does not fit: with it this process and its runners would hold {used} bytes, "
            f"the setting memory_bytes allows {self._limit_bytes}"
        )


class Load:
    """One load under way."""

    def __init__(self, memory: Memory, manifest: Manifest, number: int) -> None:
        self.number = number
        self.expected_bytes = memory.expected_bytes(manifest)
        self._memory = memory
        self._digest = manifest.digest
        self._before = memory.used_bytes() if memory.is_limited else 0
        self._began_alone = memory.is_idle

    def refusal(self) -> str:
        """Why it must not begin; empty: it may."""
        return self._memory.refusal_before(self)

    def done(self) -> None:
        """The version is loaded: learn what it took, where no other load disturbed the measure."""
        if self._memory.is_limited and self._began_alone and self._memory.is_alone(self):
            grown = self._memory.used_bytes() - self._before
            if grown > 0:
                self._memory.learn(self._digest, grown)
