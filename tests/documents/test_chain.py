"""The hash chain of the audit trail: every quiet edit shows, and is named by the entry's number."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.documents.chain import Chain, linked, seal, verify
from gateway.documents.store import AuditEntry

_TEXTS = ("actor", "action", "subject", "reason", "before", "after")
_words = st.text(max_size=6)
_contents = st.tuples(*[_words] * len(_TEXTS), st.floats(0, 1e10))
_Content = tuple[str, str, str, str, str, str, float]


def chained(contents: list[_Content], older: int = 0) -> list[AuditEntry]:
    """A trail of these contents; so many of its entries were written before there was a chain."""
    trail: list[AuditEntry] = []
    for number, (*texts, time) in enumerate(contents, start=1):
        entry = AuditEntry(**dict(zip(_TEXTS, texts, strict=True)), number=number, time=time)
        if number <= older:
            trail.append(entry)
        else:
            last = trail[-1].hash if trail else ""
            trail.append(linked(last or seal(trail), entry))
    return trail


def simple(count: int, older: int = 0) -> list[AuditEntry]:
    """A trail whose entries differ in their reasons."""
    return chained([("ada", "weights", "m@2", f"because {number}", "", "", 1.5) for number in range(count)], older)


def test_the_hash_is_the_documented_one() -> None:
    """Others can check a trail with a few lines of their own."""
    entry = AuditEntry(
        actor="ada", action="route", subject="m", reason="why \u00fc", after='{"a":1}', number=1, time=2.5
    )
    text = '["start",1,2.5,"ada","route","m","why \\u00fc","","{\\"a\\":1}"]'
    assert linked(seal(()), entry).hash == hashlib.sha256(text.encode("ascii")).hexdigest()


@given(st.lists(_contents, max_size=8), st.integers(0, 8))
def test_a_trail_as_it_was_written_is_whole(contents: list[_Content], older: int) -> None:
    """Also one that began before there was a chain."""
    trail = chained(contents, older)
    chain = Chain()
    assert chain.add(trail) is None
    assert chain.checked == len(trail)
    assert chain.head == (trail[-1].hash if trail else "")
    assert chain.started == (older + 1 if len(trail) > older else 0)


@given(st.data(), st.lists(_contents, min_size=1, max_size=8))
def test_any_single_change_is_found(data: st.DataObject, contents: list[_Content]) -> None:
    """Of any field of any entry, the hash itself included."""
    trail = chained(contents)
    place = data.draw(st.integers(0, len(trail) - 1))
    field = data.draw(st.sampled_from((*_TEXTS, "time", "number", "hash")))
    values = {
        "time": st.floats(0, 1e10),
        "number": st.integers(0, 20),
        "hash": st.text("0123456789abcdef", max_size=64),
    }
    value: object = data.draw(values.get(field, _words))
    before = getattr(trail[place], field)
    changed = replace(trail[place], **{field: value})
    broken = verify([*trail[:place], changed, *trail[place + 1 :]])
    if value == before:
        assert broken is None
    elif field == "hash" and not value and len(trail) == 1:
        assert broken is None  # a trail that never had a chain looks like that: `head` finds it
    elif field != "number":
        assert broken is not None
        # Without its hash the first entry looks like one of before the chain, and the second does not fit.
        assert broken.number in ({place + 1, place + 2} if field == "hash" else {place + 1})
    else:
        assert broken is not None


@given(st.data(), st.integers(2, 8), st.integers(0, 8))
def test_a_removed_entry_is_named(data: st.DataObject, count: int, older: int) -> None:
    """Any but the newest, which nothing follows."""
    trail = simple(count, older)
    place = data.draw(st.integers(0, count - 2))
    broken = verify([*trail[:place], *trail[place + 1 :]])
    assert broken is not None
    assert (broken.number, "missing" in broken.why) == (place + 1, True)


@given(st.data(), st.integers(2, 8), st.booleans())
def test_a_swap_is_found_at_its_first_place(data: st.DataObject, count: int, renumbered: bool) -> None:
    """Of whole entries, and of their contents under numbers that look right."""
    trail = simple(count)
    one = data.draw(st.integers(0, count - 2))
    other = data.draw(st.integers(one + 1, count - 1))
    swapped = list(trail)
    swapped[one], swapped[other] = trail[other], trail[one]
    if renumbered:
        swapped = [replace(entry, number=number) for number, entry in enumerate(swapped, start=1)]
    broken = verify(swapped)
    assert broken is not None
    assert broken.number == one + 1


@given(st.data(), st.integers(2, 8))
def test_a_change_behind_which_the_hash_was_renewed_is_found_at_the_next_entry(data: st.DataObject, count: int) -> None:
    """Who can write the table can compute a hash too; not that of everything behind it unseen."""
    trail = simple(count)
    place = data.draw(st.integers(0, count - 2))
    previous = trail[place - 1].hash if place else seal(())
    trail[place] = linked(previous, replace(trail[place], reason="nothing happened"))
    broken = verify(trail)
    assert broken is not None
    assert broken.number == place + 2


@given(st.data(), st.integers(1, 5), st.integers(1, 5))
def test_the_start_of_the_chain_vouches_for_the_entries_before_it(data: st.DataObject, older: int, newer: int) -> None:
    """They have no hash of their own, but no more edits go unseen once something was written behind them."""
    trail = simple(older + newer, older)
    place = data.draw(st.integers(0, older - 1))
    trail[place] = replace(trail[place], actor="eve")
    broken = verify(trail)
    assert broken is not None
    assert (broken.number, "starts the chain" in broken.why) == (older + 1, True)


def test_a_hash_taken_away_does_not_move_the_start_of_the_chain() -> None:
    """Else an edit of the first entries could pose as an old trail."""
    trail = simple(4)
    trail[0] = replace(trail[0], hash="")
    broken = verify(trail)
    assert broken is not None
    assert broken.number == 2
    trail = simple(4)
    trail[2] = replace(trail[2], hash="")
    broken = verify(trail)
    assert broken is not None
    assert (broken.number, "no hash" in broken.why) == (3, True)


def test_a_head_written_down_elsewhere_finds_what_was_cut_off_or_written_anew() -> None:
    """The two edits that a chain can not see by itself."""
    trail = simple(6)
    anew = chained([("eve", "nothing", "m", "", "", "", 1.0)] * 6)
    for entries, is_found in ((trail, True), (trail[:4], False), (anew, False)):
        chain = Chain(trail[4].hash.upper())
        assert chain.add(entries) is None
        assert chain.has_wanted is is_found


@given(st.integers(0, 9), st.integers(1, 4))
def test_pages_are_checked_as_one_trail(count: int, size: int) -> None:
    """A long trail is read piece by piece."""
    trail = simple(count)
    chain = Chain()
    for start in range(0, count, size):
        assert chain.add(trail[start : start + size]) is None
    assert chain.checked == count
