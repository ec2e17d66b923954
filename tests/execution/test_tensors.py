"""JSON to arrays and back: nothing is guessed, nothing is dropped, every wrong element is named."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import InvalidInput
from gateway.execution.binary import from_binary
from gateway.execution.tensors import (
    BY_NAME,
    DATATYPES,
    from_json,
    from_rows,
    made_up,
    shape_of,
    to_json,
    without_non_finite,
)
from gateway.registry.manifest import Feature, Manifest, Tensor

ELEMENTS: dict[str, st.SearchStrategy[Any]] = {
    "b": st.booleans(),
    "f": st.floats(-1000, 1000, width=16),
    "O": st.text(max_size=5),
}


def faults_of(datatype: str, shape: Any, data: Any) -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        from_json(datatype, shape, data, "/inputs/0")
    return {fault.pointer: fault.detail for fault in caught.value.faults}


@st.composite
def tensors(draw: st.DrawFn) -> tuple[str, list[int], list[Any]]:
    datatype = draw(st.sampled_from(DATATYPES))
    shape = draw(st.lists(st.integers(0, 4), max_size=4))
    if datatype.is_integer:
        limits = np.iinfo(datatype.numpy)
        elements: st.SearchStrategy[Any] = st.integers(int(limits.min), int(limits.max))
    else:
        elements = ELEMENTS[datatype.numpy.kind]
    count = math.prod(shape)
    return datatype.name, shape, draw(st.lists(elements, min_size=count, max_size=count))


@given(tensors())
def test_flat_and_nested_data_are_the_same_tensor(drawn: tuple[str, list[int], list[Any]]) -> None:
    """Both forms are legal, and what is read can be written again without loss."""
    name, shape, flat = drawn
    array = from_json(name, shape, flat)
    assert array.dtype == BY_NAME[name].numpy
    assert array.shape == tuple(shape)
    assert array.ravel().tolist() == flat
    if shape:
        assert np.array_equal(from_json(name, shape, array.tolist()), array)
        assert to_json({"y": array}) == ({"y": array.tolist()}, 0)


@pytest.mark.parametrize(
    "data", [[1.0, 2.0, 3.0], [1.0] * 5, [[1.0, 2.0], [3.0]], [[1.0], [2.0], [3.0], [4.0]], [[1.0, 2.0], 3.0]]
)
def test_the_shape_is_the_truth(data: list[Any]) -> None:
    """Too few, too many, ragged, transposed, half nested: never stretched, never cut."""
    assert all(pointer.startswith("/inputs/0/data") for pointer in faults_of("FP32", [2, 2], data))


def test_a_huge_shape_is_refused_before_memory_is_taken() -> None:
    """10^15 elements would be 4 petabytes."""
    assert faults_of("FP32", [10**9, 10**6], [1.0]) == {
        "/inputs/0/data": "has 1 elements, the shape [1000000000, 1000000] needs 1000000000000000"
    }


@pytest.mark.parametrize("shape", [[-1, 2], [True], [1.0], ["2"], "22", None, [1] * 17])
def test_a_wrong_shape_is_refused(shape: Any) -> None:
    """A negative dimension has crashed servers."""
    assert all(pointer.startswith("/inputs/0/shape") for pointer in faults_of("FP32", shape, [1.0]))


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        ("FP32", True), ("FP32", "1"), ("FP32", None), ("FP32", math.nan), ("FP32", math.inf), ("FP32", 1e39),
        ("FP16", 70000.0), ("FP64", 10**400), ("INT8", 128), ("UINT8", -1), ("INT64", 1.0), ("INT64", True),
        ("UINT64", 2**64), ("BOOL", 1), ("BOOL", "true"), ("BYTES", 3), ("BYTES", b"x"), ("FP32", [1.0]),
    ],
)  # fmt: skip
def test_a_wrong_element_is_named(datatype: str, value: Any) -> None:
    """Nothing is coerced: a bool is no number, a text is no number, 1.0 is no whole number."""
    good = {"BOOL": True, "BYTES": "x"}.get(datatype, 1)
    assert list(faults_of(datatype, [2], [good, value])) == ["/inputs/0/data/1"]


def test_a_wrong_element_of_a_nested_list_is_named_by_its_place() -> None:
    assert list(faults_of("INT64", [2, 2], [[1, 2], [3, "x"]])) == ["/inputs/0/data/1/1"]


def test_at_most_twenty_elements_are_named() -> None:
    assert len(faults_of("FP32", [1000], [None] * 1000)) == 20


@pytest.mark.parametrize("datatype", ["FP8", "", None, 3, "fp32"])
def test_an_unknown_datatype_is_refused(datatype: Any) -> None:
    assert list(faults_of(datatype, [1], [1.0])) == ["/inputs/0/datatype"]


def test_large_whole_numbers_are_exact() -> None:
    """Beyond 2^53 a detour through floats would lose digits."""
    array = from_json("UINT64", [1], [2**64 - 1])
    assert to_json({"y": array})[0] == {"y": [2**64 - 1]}


def test_a_tensor_without_dimensions_is_one_value() -> None:
    assert from_json("FP32", [], 2.5).shape == ()
    assert from_json("FP32", [], [2.5]).shape == ()
    assert to_json({"y": np.array(2.5, np.float32)}) == ({"y": [2.5]}, 0)
    assert to_json({"y": np.array(np.nan)}) == ({"y": [None]}, 1)


@pytest.mark.parametrize("rows", [1, 100])
def test_numbers_that_are_not_finite_become_null_and_are_counted(rows: int) -> None:
    """Peers answer invalid JSON, raise, or drop the elements. The small and the large way must agree."""
    scores = np.ones((rows, 3), np.float32)
    scores[0] = [np.nan, 1.0, -np.inf]
    lists, non_finite = to_json({"label": np.zeros(rows, np.int64), "scores": scores})
    assert non_finite == 2
    assert lists["scores"][0] == [None, 1.0, None]
    assert json.loads(json.dumps(lists, allow_nan=False)) == lists


def test_finite_arrays_are_passed_on_as_they_are() -> None:
    array = np.ones(3)
    assert without_non_finite(array) is array


def test_the_shape_of_nested_lists_is_read_along_their_first_elements() -> None:
    assert shape_of([[1, 2, 3], [4, 5, 6]]) == (2, 3)
    assert shape_of(3) == ()
    assert shape_of([]) == (0,)
    deep: Any = 1
    for _ in range(100):
        deep = [deep]
    assert len(shape_of(deep)) == 16


MIXED = Manifest(
    model="m",
    inputs=(
        Tensor(name="numbers", datatype="FP32", shape=(-1, 2)),
        Tensor(name="city", datatype="BYTES", shape=(-1, 1)),
        Tensor(name="rooms", datatype="INT64", shape=(-1,)),
    ),
    features=(
        Feature(name="b", input="numbers", position=1),
        Feature(name="city", kind="categorical", input="city"),
        Feature(name="a", input="numbers", position=0),
        Feature(name="rooms", input="rooms"),
    ),
)


def test_rows_are_spread_over_the_inputs_by_position() -> None:
    """The order of features is the publisher's; the order of columns is the model's."""
    tensors = from_rows([[2.0, "ulm", 1.0, 7], [None, None, 3.0, 8]], MIXED)
    assert tensors["numbers"].dtype == np.float32
    assert np.array_equal(tensors["numbers"], [[1.0, 2.0], [3.0, np.nan]], equal_nan=True)
    assert tensors["city"].tolist() == [["ulm"], [""]]
    assert tensors["rooms"].tolist() == [7, 8]


def test_made_up_tensors_fit_the_signature() -> None:
    tensors = made_up(MIXED, 3, 1.0)
    assert {name: (array.shape, array.dtype.kind) for name, array in tensors.items()} == {
        "numbers": ((3, 2), "f"),
        "city": ((3, 1), "O"),
        "rooms": ((3,), "i"),
    }


@pytest.mark.parametrize("shape", [[0, 2**62, 2**62], [0, 10**30], [2**63, 0], [10**4000, 10**4000]])
@pytest.mark.parametrize("datatype", ["FP32", "BYTES"])
def test_sizes_that_no_array_can_have_are_refused_also_beside_a_zero(datatype: str, shape: list[int]) -> None:
    """Nothing is allocated, and still numpy can not make it."""
    with pytest.raises(InvalidInput, match="/shape must hold at most"):
        from_json(datatype, shape, [], "/inputs/0")
    with pytest.raises(InvalidInput, match="/shape must hold at most"):
        from_binary(datatype, shape, memoryview(b""), "/inputs/0")


def test_a_wrong_value_without_dimensions_is_named_itself() -> None:
    with pytest.raises(InvalidInput) as told:
        from_json("BOOL", [], "yes", "/inputs/0")
    assert told.value.faults[0].pointer == "/inputs/0/data"
