"""What memory has no room for is refused before it is loaded, where anybody knows what it takes."""

from __future__ import annotations

from gateway.registry.manifest import Manifest
from gateway.serving.memory import Memory

KNOWN = Manifest(model="m", number=1, digest="a", memory_bytes=30)
UNKNOWN = Manifest(model="m", number=2, digest="b")


class Held:
    """The memory of a process, as the test says."""

    def __init__(self, limit_bytes: int | None) -> None:
        self.inside, self.runners = 50, 20
        self.memory = Memory(limit_bytes, lambda: self.inside, lambda: self.runners)


def test_the_measure_of_admission_refuses_before_the_load() -> None:
    held = Held(99)
    with held.memory.loading(KNOWN) as load:
        assert "would hold 100 bytes, the setting memory_bytes allows 99" in load.refusal()
    with Held(100).memory.loading(KNOWN) as load:
        assert load.refusal() == ""


def test_what_nobody_has_measured_is_loaded_and_then_judged() -> None:
    held = Held(60)
    with held.memory.loading(UNKNOWN) as load:
        assert load.refusal() == ""
    assert "would hold 70 bytes" in held.memory.refusal()


def test_loads_side_by_side_do_not_all_get_the_same_room() -> None:
    held = Held(129)
    with held.memory.loading(KNOWN) as first:
        assert first.refusal() == ""
        with held.memory.loading(KNOWN) as second:
            assert "would hold 130 bytes" in second.refusal()
    with held.memory.loading(KNOWN) as third:
        assert third.refusal() == ""


def test_an_earlier_load_in_this_process_knows_better_than_admission() -> None:
    """Inside or in a runner; memory that lay free hides what a later load takes, so the larger measure counts."""
    held = Held(200)
    for grown in (80, 5):
        with held.memory.loading(KNOWN) as load:
            held.runners += grown
            load.done()
        held.runners -= grown
    assert held.memory.expected_bytes(KNOWN) == 80


def test_a_load_that_was_not_alone_teaches_nothing() -> None:
    held = Held(200)
    with held.memory.loading(UNKNOWN) as first:
        with held.memory.loading(KNOWN) as second:
            held.inside += 40
            second.done()
        held.inside += 40
        first.done()
    assert (held.memory.expected_bytes(UNKNOWN), held.memory.expected_bytes(KNOWN)) == (0, 30)


def test_without_a_limit_nothing_is_refused() -> None:
    held = Held(None)
    with held.memory.loading(KNOWN) as load:
        load.done()
        assert load.refusal() == held.memory.refusal() == ""


def test_what_is_remembered_does_not_grow_without_end() -> None:
    held = Held(1 << 30)
    for number in range(1200):
        held.memory.learn(str(number), 1)
    assert held.memory.expected_bytes(Manifest(model="m", digest="0")) == 0
    assert held.memory.expected_bytes(Manifest(model="m", digest="1199")) == 1
