"""No version is unloaded under a lease, and none stays loaded when nothing holds it."""

from __future__ import annotations

from typing import cast

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.documents.policy import Policy
from gateway.documents.route import Route
from gateway.execution.session import LoadedVersion
from gateway.names import ModelName, VersionId
from gateway.routing.snapshot import compile_route
from gateway.serving.generation import Generation, Shelf, Slot

MODEL = ModelName("m")


class FakeVersion:
    def __init__(self, number: int) -> None:
        self.number = number
        self.is_open = True


def loaded(number: int) -> LoadedVersion:
    return cast(LoadedVersion, FakeVersion(number))


def generation(shelf: Shelf, champion: int, revision: int = 1) -> Generation:
    if Slot(VersionId(MODEL, champion)) not in shelf:
        shelf.put(Slot(VersionId(MODEL, champion)), loaded(champion))
    snapshot = compile_route(Policy(model="m"), Route(champion=champion), revision)
    return Generation(snapshot, 0, frozenset({champion}), shelf)


def test_a_retired_generation_keeps_its_versions_until_the_last_lease_ends() -> None:
    """A request in flight finishes on what it started with."""
    unloaded: list[LoadedVersion] = []
    shelf = Shelf(unloaded.append)
    first = generation(shelf, 1)
    with first.lease():
        first.retire()
        assert unloaded == []
        assert 1 in first.versions
    assert len(unloaded) == 1
    assert len(shelf) == 0


def test_a_version_in_two_generations_is_unloaded_with_the_second() -> None:
    """A weight change keeps the champion loaded without loading it again."""
    unloaded: list[LoadedVersion] = []
    shelf = Shelf(unloaded.append)
    first, second = generation(shelf, 1), generation(shelf, 1, revision=2)
    first.retire()
    assert unloaded == []
    second.retire()
    assert len(unloaded) == 1


class Leases(RuleBasedStateMachine):
    """Any order of swaps, leases and releases."""

    def __init__(self) -> None:
        super().__init__()
        self.shelf = Shelf(self._unload)
        self.current = generation(self.shelf, 1)
        self.held: list[Generation] = []

    def _unload(self, version: LoadedVersion) -> None:
        cast(FakeVersion, version).is_open = False

    @rule(champion=st.integers(1, 4))
    def swap(self, champion: int) -> None:
        fresh = generation(self.shelf, champion)
        retired, self.current = self.current, fresh
        retired.retire()

    @rule()
    def take(self) -> None:
        self.current.hold()
        self.held.append(self.current)

    @rule(index=st.integers(0, 20))
    def give_back(self, index: int) -> None:
        if self.held:
            self.held.pop(index % len(self.held)).release()

    @invariant()
    def leased_versions_are_loaded_and_nothing_else_is(self) -> None:
        alive = {id(g): g for g in [*self.held, self.current]}.values()
        numbers = {number for g in alive for number in g.versions}
        assert all(cast(FakeVersion, v).is_open for g in alive for v in g.versions.values())
        assert all(g.versions for g in alive)
        assert len(self.shelf) == len(numbers)


TestLeases = Leases.TestCase
TestLeases.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
