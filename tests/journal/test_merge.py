"""One order for all readers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.journal.journal import START, Offset
from gateway.journal.merge import Written, decode_offset, encode_offset, merge, watermark


def _written(time_ns: int, gateway: str, sequence: int) -> Written:
    return Written(time_ns, gateway, 1, sequence, b"", 1, 0)


def test_records_are_merged_by_time_then_gateway() -> None:
    """Equal times happen; the order must not depend on which spool was listed first."""
    a = [_written(1, "a", 1), _written(5, "a", 2)]
    b = [_written(1, "b", 1), _written(4, "b", 2)]
    expected = [(1, "a"), (1, "b"), (4, "b"), (5, "a")]
    assert [(one.time_ns, one.gateway) for one in merge([iter(a), iter(b)])] == expected
    assert [(one.time_ns, one.gateway) for one in merge([iter(b), iter(a)])] == expected


def test_the_slowest_live_writer_sets_the_watermark() -> None:
    """It may still write a record right behind its floor; a dead one is not in the list and holds nothing up."""
    assert watermark([70, 50, 90], listed_ns=100) == 50
    assert watermark([], listed_ns=100) == 100
    assert watermark([150], listed_ns=100) == 100


@given(st.dictionaries(st.tuples(st.text("ab-", min_size=1, max_size=3), st.integers(1, 5)), st.integers(0, 2**63 - 1)))
def test_offsets_come_back_and_equal_places_are_equal_bytes(vector: dict[tuple[str, int], int]) -> None:
    """Offsets are compared and stored as bytes."""
    offset = encode_offset(vector)
    assert decode_offset(offset) == {spool: sequence for spool, sequence in vector.items() if sequence}
    assert encode_offset(dict(reversed(vector.items()))) == offset


def test_nothing_read_is_the_start() -> None:
    """START and an offset of nothing are the same place."""
    assert encode_offset({("a", 1): 0}) == START
    assert decode_offset(START) == {}


def test_other_bytes_are_refused_with_a_sentence() -> None:
    """An offset from a document may have been edited by hand."""
    with pytest.raises(ValueError, match="not an offset"):
        decode_offset(Offset(b"\x01nonsense"))
