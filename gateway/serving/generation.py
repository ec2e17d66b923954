"""What one process serves now for one model, and the shelf of loaded versions behind it.

A generation is one compiled revision and the loaded versions it names: immutable, swapped by one assignment. A request
takes one lease and uses it to the end; its shadows take their own. A retired generation without leases gives its
versions back; a version that no generation holds is unloaded. Everything here runs in the event loop of one
process: no locks. A lease that is never released keeps its versions loaded for ever, so leases are context managers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from contextlib import contextmanager
from typing import NamedTuple

from gateway.documents.route import Route
from gateway.execution.session import LoadedVersion
from gateway.names import ModelName, VersionId
from gateway.routing.snapshot import Snapshot
from gateway.serving.arm import Arm


class Slot(NamedTuple):
    """A version and where it runs: a version on trial that is promoted is loaded a second time, inline.

    is_shadow: in a process that gives way to all others; what callers wait for never runs there.
    """

    version: VersionId
    isolated: bool = False
    is_shadow: bool = False


def slots_of(model: ModelName, route: Route, numbers: Set[int], isolated: Set[int]) -> list[Slot]:
    """The places of these versions under a route, in order of their numbers."""
    shadows = isolated & {shadow.version for shadow in route.shadows}
    return [Slot(VersionId(model, n), n in isolated, n in shadows) for n in sorted(numbers)]


class Shelf:
    """Loaded versions and how many generations (or preparations) hold each."""

    def __init__(self, unload: Callable[[LoadedVersion], None]) -> None:
        self._unload = unload
        self._loaded: dict[Slot, LoadedVersion] = {}
        self._holders: dict[Slot, int] = {}

    def __contains__(self, slot: Slot) -> bool:
        return slot in self._loaded

    def __len__(self) -> int:
        return len(self._loaded)

    def put(self, slot: Slot, loaded: LoadedVersion) -> None:
        """Add a loaded version that nobody holds yet; it is unloaded at the next `sweep` if nobody takes it."""
        self._loaded.setdefault(slot, loaded)
        self._holders.setdefault(slot, 0)

    def take(self, slot: Slot) -> LoadedVersion:
        """One more holder of the version."""
        self._holders[slot] += 1
        return self._loaded[slot]

    def give_back(self, slot: Slot) -> None:
        """One holder less; the last one gone, the version is unloaded."""
        self._holders[slot] -= 1
        self.sweep()

    def drop(self, slot: Slot) -> None:
        """Unload a version that nobody holds."""
        del self._holders[slot]
        self._unload(self._loaded.pop(slot))

    def sweep(self) -> None:
        """Unload what nobody holds."""
        for slot in [slot for slot, holders in self._holders.items() if holders == 0]:
            self.drop(slot)


class Generation:
    """One revision of one model with the versions it names. `versions` may lack a challenger that failed to load."""

    def __init__(
        self,
        snapshot: Snapshot,
        policy_revision: int,
        numbers: frozenset[int],
        shelf: Shelf,
        isolated: frozenset[int] = frozenset(),
    ) -> None:
        """isolated: those of the versions that run in processes of their own."""
        self.snapshot = snapshot
        self.policy_revision = policy_revision
        self._shelf = shelf
        self.arms: dict[int, Arm] = {}
        """Made when a version is first asked (`gateway.serving.predict`)."""
        self._leases = 0
        self._retired = False
        self._slots = slots_of(snapshot.model, snapshot.route, numbers, isolated)
        self.versions: Mapping[int, LoadedVersion] = {slot.version.number: shelf.take(slot) for slot in self._slots}

    @property
    def model(self) -> ModelName:
        """The model it serves."""
        return self.snapshot.model

    @property
    def leases(self) -> int:
        """How many requests and shadows use it now."""
        return self._leases

    @contextmanager
    def lease(self) -> Iterator[Generation]:
        """Hold the generation and its versions for one request."""
        self.hold()
        try:
            yield self
        finally:
            self.release()

    def hold(self) -> None:
        """One lease more; every `hold` needs one `release`."""
        self._leases += 1

    def release(self) -> None:
        """One lease less."""
        self._leases -= 1
        if self._retired:
            self._give_back_when_unused()

    def retire(self) -> None:
        """No new leases come; versions are given back when the last lease ends."""
        self._retired = True
        self._give_back_when_unused()

    def _give_back_when_unused(self) -> None:
        if self._retired and self._leases == 0 and self.versions:
            self.versions = {}
            self.arms = {}
            for slot in self._slots:
                self._shelf.give_back(slot)


def is_last_good(generation: Generation | None, number: int) -> bool:
    """True when this version is the champion and no loaded `previous` could take its place. Pure."""
    if generation is None or generation.snapshot.champion != number:
        return False
    return generation.snapshot.route.previous not in generation.versions
