"""Bodies of any shape, read strictly: what is wrong is found at its place, whatever stands before it."""

from __future__ import annotations

import pytest

from gateway.api.body import strict
from gateway.errors import InvalidInput


@pytest.mark.parametrize(
    ("body", "pointer", "detail"),
    [
        (b'{"a": [1, {"b": NaN}]}', "/a/1/b", "NaN is not JSON"),
        ('{"ключ: NaN": "й", "b": [0, -Infinity]}'.encode(), "/b/1", "-Infinity is not JSON"),
        ('{"й": "йййй", "b": [0, x]}'.encode(), "/b/1", "not JSON at byte 28"),
        (b'{"a": 1', "/a", "ends too early"),
        (b'{"a": "\xff"}', "", "UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "", "UTF-8"),
        (b'{"a": ' + b"9" * 5000 + b"}", "", "64-bit floating point"),
        (b"", "", "empty"),
    ],
    ids=["NaN", "behind other letters", "no value", "cut off", "not UTF-8", "UTF-16", "huge", "nothing"],
)
def test_the_place_of_what_is_wrong_is_named(body: bytes, pointer: str, detail: str) -> None:
    with pytest.raises(InvalidInput) as told:
        strict(body)
    assert told.value.faults[0].pointer == pointer
    assert detail in told.value.faults[0].detail


def test_a_byte_order_mark_is_no_fault() -> None:
    """Editors on Windows write one into a manifest."""
    assert strict(b'\xef\xbb\xbf{"a": 1}') == {"a": 1}
