"""The contract at the door: right values become tensors, wrong ones are named, the policy says what is let through."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.documents.policy import Inputs
from gateway.errors import InvalidInput
from gateway.execution.contract import Prepared, contract_for
from gateway.registry.manifest import Feature, Manifest, Tensor

TABLE = Manifest(
    model="electricity",
    inputs=(Tensor(name="X", datatype="FP32", shape=(-1, 3)),),
    features=(
        Feature(name="price", low=0.0, high=1.0, input="X", position=0),
        Feature(name="demand", low=0.7, high=100.0, input="X", position=1),
        Feature(name="day", kind="categorical", categories=(1, 2, 3), input="X", position=2),
    ),
)
COLUMNS = Manifest(
    model="homes",
    inputs=(
        Tensor(name="price", datatype="FP64", shape=(-1, 1)),
        Tensor(name="city", datatype="BYTES", shape=(-1, 1)),
        Tensor(name="rooms", datatype="INT64", shape=(-1, 1)),
        Tensor(name="is_new", datatype="BOOL", shape=(-1, 1)),
    ),
    features=(
        Feature(name="price", input="price", may_be_missing=True),
        Feature(name="city", kind="categorical", categories=("ulm", "bonn"), input="city"),
        Feature(name="rooms", low=1, high=9.5, input="rooms"),
        Feature(name="is_new", input="is_new"),
    ),
)
BARE = Manifest(
    model="net",
    inputs=(
        Tensor(name="image", datatype="FP32", shape=(-1, 2, 2)),
        Tensor(name="scale", datatype="INT32", shape=(-1,)),
    ),
)
GOOD = {"price": 0.5, "demand": 2, "day": 1}
HOME = {"price": 1e5, "city": "ulm", "rooms": 3, "is_new": True}
DEFAULT = Inputs()
FLAG = Inputs(missing="flag", out_of_range="flag", unseen_category="flag")
CLIP = Inputs(missing="clip", out_of_range="clip", unseen_category="clip")
REJECT = Inputs(missing="reject", out_of_range="reject", unseen_category="reject")


def faults(inputs: Any, manifest: Manifest = TABLE, handling: Inputs = DEFAULT) -> dict[str, str]:
    with pytest.raises(InvalidInput) as caught:
        contract_for(manifest, handling).records(inputs)
    assert str(caught.value)
    return {fault.pointer: fault.detail for fault in caught.value.faults}


def test_a_record_is_one_row_in_signature_order() -> None:
    """Names, not their order in the body, decide the column."""
    prepared = contract_for(TABLE, DEFAULT).records(dict(reversed(GOOD.items())))
    assert prepared == Prepared(prepared.tensors, 1, [[0.5, 2, 1]], (), is_small=True)
    assert prepared.tensors["X"].dtype == np.float32
    assert prepared.tensors["X"].tolist() == [[0.5, 2.0, 1.0]]


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(1, 100), st.sampled_from([1, 2, 3])), min_size=1, max_size=5))
def test_records_rows_and_tensors_are_the_same_request(rows: list[tuple[float, float, int]]) -> None:
    """Three ways to say the same give the same tensor and the same journal rows."""
    by_name = contract_for(TABLE, DEFAULT).records([dict(zip(GOOD, row, strict=True)) for row in rows])
    by_place = contract_for(TABLE, DEFAULT).records([list(row) for row in rows])
    by_tensor = contract_for(TABLE, DEFAULT).tensors({"X": np.array(rows, np.float32)})
    assert np.array_equal(by_name.tensors["X"], by_place.tensors["X"])
    assert np.array_equal(by_name.tensors["X"], by_tensor.tensors["X"])
    assert by_name.values == by_place.values
    assert (by_name.rows, by_name.flags) == (by_tensor.rows, by_tensor.flags) == (len(rows), ())


def test_each_column_may_be_an_input_of_its_own() -> None:
    """Pipelines converted from a data frame take one tensor a column, texts included."""
    prepared = contract_for(COLUMNS, DEFAULT).records([HOME, {**HOME, "city": "bonn", "rooms": 4.0}])
    assert {name: (array.dtype.kind, array.tolist()) for name, array in prepared.tensors.items()} == {
        "price": ("f", [[1e5], [1e5]]),
        "city": ("O", [["ulm"], ["bonn"]]),
        "rooms": ("i", [[3], [4]]),
        "is_new": ("b", [[True], [True]]),
    }
    assert prepared.values == [[1e5, "ulm", 3, True], [1e5, "bonn", 4, True]]


@pytest.mark.parametrize(
    ("inputs", "pointer"),
    [
        ([GOOD, GOOD, GOOD, {**GOOD, "price": "x"}], "/inputs/3/price"),
        ({**GOOD, "price": "0.5"}, "/inputs/price"),
        ({**GOOD, "price": True}, "/inputs/price"),
        ({**GOOD, "price": [0.5]}, "/inputs/price"),
        ({**GOOD, "price": {"a": 1}}, "/inputs/price"),
        ({**GOOD, "price": math.nan}, "/inputs/price"),
        ({**GOOD, "price": math.inf}, "/inputs/price"),
        ({**GOOD, "price": 10**400}, "/inputs/price"),
        ({**GOOD, "price": 1e39}, "/inputs/price"),
        ({**GOOD, "price": None}, "/inputs/price"),
        ({"price": 0.5, "demand": 2}, "/inputs/day"),
        ({**GOOD, "extra/~name": 1}, "/inputs/extra~1~0name"),
        ([[0.5, 2.0, 1], [0.5, 2.0]], "/inputs/1"),
        ([[0.5, 2.0, 1, 4]], "/inputs/0"),
        ([[0.5, None, 1]], "/inputs/0/1"),
        ([GOOD, "x"], "/inputs/1"),
        ([GOOD, None], "/inputs/1"),
        ([0.5, 2.0, 1], "/inputs"),
        ([], "/inputs"),
        ("x", "/inputs"),
        (None, "/inputs"),
        (3, "/inputs"),
    ],
)
def test_what_is_wrong_is_named_by_its_pointer(inputs: Any, pointer: str) -> None:
    """A caller must find the field without reading our code."""
    assert list(faults(inputs)) == [pointer]


def test_an_empty_record_misses_every_feature() -> None:
    assert set(faults({})) == {"/inputs/price", "/inputs/demand", "/inputs/day"}


def test_a_flat_row_says_what_to_do() -> None:
    assert "[[...]]" in faults([0.5, 2.0, 1])["/inputs"]


def test_an_unknown_feature_lists_the_known_ones() -> None:
    """A misspelt name is the commonest mistake."""
    assert "price, demand, day" in faults({**GOOD, "prise": 1})["/inputs/prise"]


def test_at_most_twenty_places_are_named() -> None:
    """A wrong batch must not be answered with a book."""
    assert len(faults([{**GOOD, "price": "x"}] * 500)) == 20


def test_records_and_rows_may_stand_together() -> None:
    assert contract_for(TABLE, DEFAULT).records([GOOD, [0.5, 2, 1]]).values == [[0.5, 2, 1], [0.5, 2, 1]]


@pytest.mark.parametrize("how", ["null", "absent"])
@pytest.mark.parametrize("handling", [FLAG, CLIP])
def test_a_missing_number_is_nan_and_flagged(how: str, handling: Inputs) -> None:
    """There is nothing to clip a missing value to, so clip is flag here."""
    record: dict[str, Any] = {"demand": 2, "day": 1} | ({"price": None} if how == "null" else {})
    prepared = contract_for(TABLE, handling).records(record)
    assert prepared.flags == ("missing",)
    assert prepared.values == [[None, 2, 1]]
    assert math.isnan(prepared.tensors["X"][0, 0])


def test_a_missing_value_that_the_contract_allows_is_nothing_special() -> None:
    prepared = contract_for(COLUMNS, REJECT).records({**HOME, "price": None})
    assert prepared.flags == ()
    assert prepared.values == [[None, "ulm", 3, True]]
    assert math.isnan(prepared.tensors["price"][0, 0])


def test_a_missing_text_is_an_empty_one() -> None:
    prepared = contract_for(COLUMNS, FLAG).records({**HOME, "city": None})
    assert prepared.tensors["city"].tolist() == [[""]]
    assert prepared.flags == ("missing",)


@pytest.mark.parametrize("name", ["rooms", "is_new"])
def test_what_has_no_missing_value_is_refused_in_any_case(name: str) -> None:
    """There is no NaN among whole numbers; a made-up 0 would be a lie."""
    assert f"/inputs/{name}" in faults({**HOME, name: None}, COLUMNS, FLAG)


def test_out_of_range_is_rejected_clipped_or_flagged() -> None:
    record = {**GOOD, "price": 3.0}
    assert "/inputs/price" in faults(record, TABLE, REJECT)
    clipped = contract_for(TABLE, CLIP).records(record)
    assert (clipped.values, clipped.flags) == ([[1.0, 2, 1]], ("out_of_range",))
    flagged = contract_for(TABLE, FLAG).records(record)
    assert (flagged.values, flagged.flags) == ([[3.0, 2, 1]], ("out_of_range",))


def test_a_clipped_whole_number_stays_inside_its_range() -> None:
    """The range ends at 9.5: the largest whole number in it is 9."""
    prepared = contract_for(COLUMNS, CLIP).records({**HOME, "rooms": 50})
    assert prepared.tensors["rooms"].tolist() == [[9]]


@pytest.mark.parametrize(("record", "manifest"), [({**GOOD, "day": 9}, TABLE), ({**HOME, "city": "kiel"}, COLUMNS)])
def test_an_unseen_category_is_rejected_or_flagged(record: dict[str, Any], manifest: Manifest) -> None:
    name = "day" if manifest is TABLE else "city"
    assert f"/inputs/{name}" in faults(record, manifest, REJECT)
    for handling in (FLAG, CLIP):
        prepared = contract_for(manifest, handling).records(record)
        assert prepared.flags == ("unseen_category",)
        assert record[name] in next(iter(prepared.values))


def test_the_policy_may_differ_by_feature() -> None:
    handling = Inputs(out_of_range="reject", fields={"price": {"out_of_range": "clip", "missing": "flag"}})
    assert contract_for(TABLE, handling).records({**GOOD, "price": 3.0}).flags == ("out_of_range",)
    assert contract_for(TABLE, handling).records({**GOOD, "price": None}).flags == ("missing",)
    assert set(faults({**GOOD, "price": 3.0, "demand": 1000}, TABLE, handling)) == {"/inputs/demand"}


@pytest.mark.parametrize("handling", [FLAG, CLIP])
def test_whole_numbers_of_any_length_can_be_written_down(handling: Inputs) -> None:
    """JSON knows no largest integer, a journal record does: what the model takes as floating point is kept as that."""
    for huge in (2**63, 2**64, -(2**63) - 1, 10**30):
        for inputs, manifest in (
            ([0.5, huge, 1], TABLE), ([0.5, 1, huge], TABLE), ({**HOME, "price": huge}, COLUMNS),
            ({"image": [[[1, 2], [3, huge]]], "scale": [1]}, BARE),
        ):  # fmt: skip
            rows = [inputs] if isinstance(inputs, list) else inputs
            prepared = contract_for(manifest, handling).records(rows)
            assert msgspec.msgpack.encode(prepared.values)


def test_each_flag_is_given_once() -> None:
    rows = [{**GOOD, "price": 3.0}, {**GOOD, "price": 4.0, "day": 7}, GOOD]
    assert contract_for(TABLE, FLAG).records(rows).flags == ("out_of_range", "unseen_category")


def test_a_model_without_features_takes_nested_lists_by_tensor_name() -> None:
    body = {"scale": [1, 2], "image": [[[1.0, 2.0], [3.0, 4.0]], [[5, 6], [7, 8]]]}
    prepared = contract_for(BARE, DEFAULT).records(body)
    assert prepared.tensors["image"].shape == (2, 2, 2)
    assert prepared.tensors["scale"].dtype == np.int32
    assert (prepared.rows, prepared.values) == (2, body)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"scale": [1.5, 2]}, "/inputs/scale/0"),
        ({"image": [[[1.0, 2.0], [3.0]], [[5, 6], [7, 8]]]}, "/inputs/image/0/1"),
        ({"image": [[1.0, 2.0]]}, "/inputs/image"),
        ({"image": [[[1.0, 2.0, 3.0]]]}, "/inputs/image"),
        ({"other": [1]}, "/inputs/other"),
        ({"scale": 3}, "/inputs/scale"),
    ],
)
def test_wrong_nested_lists_are_named(change: dict[str, Any], pointer: str) -> None:
    body = {"scale": [1, 2], "image": [[[1.0, 2.0], [3.0, 4.0]], [[5, 6], [7, 8]]], **change}
    assert pointer in faults(body, BARE)


def test_a_model_without_features_refuses_rows() -> None:
    assert "image, scale" in faults([[1.0, 2.0]], BARE)["/inputs"]


def test_tensors_in_range_are_passed_on_untouched() -> None:
    """No copy for the protocol client who did everything right. 0.7 in 32 bits is a little less than 0.7."""
    table = np.array([[0.5, 0.7, 1.0]], np.float32)
    manifest = msgspec.structs.replace(
        TABLE, features=(*TABLE.features[:2], Feature(name="day", input="X", position=2))
    )
    prepared = contract_for(manifest, REJECT).tensors({"X": table})
    assert prepared.tensors["X"] is table
    assert prepared.rows == 1


def test_nan_in_a_tensor_is_let_through_and_flagged() -> None:
    """Binary tensors carry NaN exactly; unlike a null, the caller wrote it on purpose."""
    prepared = contract_for(TABLE, REJECT).tensors({"X": np.array([[np.nan, 2.0, 1.0]], np.float32)})
    assert prepared.flags == ("missing",)
    assert prepared.values == [[None, 2.0, 1.0]]
    assert math.isnan(prepared.tensors["X"][0, 0])


def test_tensors_meet_the_same_contract() -> None:
    table = np.array([[0.5, 2.0, 1.0], [9.0, 2.0, 9.0]], np.float32)
    with pytest.raises(InvalidInput) as caught:
        contract_for(TABLE, REJECT).tensors({"X": table})
    assert [fault.pointer for fault in caught.value.faults] == ["/inputs/0/data/1/0", "/inputs/0/data/1/2"]
    prepared = contract_for(TABLE, CLIP).tensors({"X": table})
    assert prepared.tensors["X"].tolist() == [[0.5, 2.0, 1.0], [1.0, 2.0, 9.0]]
    assert set(prepared.flags) == {"unseen_category", "out_of_range"}


def test_an_infinite_number_in_a_tensor_is_out_of_range() -> None:
    prepared = contract_for(TABLE, FLAG).tensors({"X": np.array([[np.inf, 2.0, 1.0]], np.float32)})
    assert prepared.flags == ("out_of_range",)
    assert prepared.tensors["X"][0, 0] == np.inf


@pytest.mark.parametrize(
    ("tensors", "pointer"),
    [
        ({"Y": np.zeros((1, 3), np.float32)}, "/inputs/0/name"),
        ({"X": np.zeros((1, 3), np.float64)}, "/inputs/0/datatype"),
        ({"X": np.zeros((1, 4), np.float32)}, "/inputs/0/shape"),
        ({"X": np.zeros(3, np.float32)}, "/inputs/0/shape"),
        ({"X": np.zeros((1, 3), np.complex64)}, "/inputs/0/datatype"),
        ({}, "/inputs"),
        ({"X": np.zeros((0, 3), np.float32)}, "/inputs"),
    ],
)
def test_tensors_that_do_not_fit_the_signature_are_named(tensors: dict[str, np.ndarray], pointer: str) -> None:
    """Wrong names, types and shapes never reach the runtime."""
    with pytest.raises(InvalidInput) as caught:
        contract_for(TABLE, DEFAULT).tensors(tensors)
    assert pointer in {fault.pointer for fault in caught.value.faults}


def test_tensors_of_different_heights_are_refused() -> None:
    tensors = {
        "price": np.ones((2, 1)),
        "city": np.array([["ulm"]], object),
        "rooms": np.ones((2, 1), np.int64),
        "is_new": np.ones((2, 1), np.bool_),
    }
    with pytest.raises(InvalidInput, match="same number of rows"):
        contract_for(COLUMNS, DEFAULT).tensors(tensors)


def test_tensors_of_a_model_without_features_are_only_checked_for_shape() -> None:
    tensors = {"scale": np.array([1], np.int32), "image": np.full((1, 2, 2), np.nan, np.float32)}
    prepared = contract_for(BARE, REJECT).tensors(tensors)
    assert prepared.tensors is tensors
    assert prepared.values == {"scale": [1], "image": [[[None, None], [None, None]]]}


@pytest.mark.parametrize(("value", "flags"), [(0.0, ()), (np.nan, ("missing",)), (-np.inf, ("out_of_range",))], ids=str)
def test_what_is_not_finite_is_flagged_where_there_are_no_features(value: float, flags: tuple[str, ...]) -> None:
    """Binary tensors may hold it; the model gets it as it is, and data quality counts it."""
    tensors = {"scale": np.array([1], np.int32), "image": np.full((1, 2, 2), value, np.float32)}
    assert contract_for(BARE, REJECT).tensors(tensors).flags == flags


def test_a_model_that_takes_one_row_refuses_more() -> None:
    """A fixed first dimension of 1 is common in exports without dynamic axes."""
    fixed = msgspec.structs.replace(TABLE, inputs=(Tensor(name="X", datatype="FP32", shape=(1, 3)),))
    assert contract_for(fixed, DEFAULT).records(GOOD).rows == 1
    assert "one row at a time" in faults([GOOD, GOOD], fixed)["/inputs"]


def test_the_same_manifest_and_policy_are_compiled_once() -> None:
    """By identity: an equal policy read again is compiled anew, and never mistaken for another."""
    assert contract_for(TABLE, DEFAULT) is contract_for(TABLE, DEFAULT)
    assert contract_for(TABLE, FLAG) is not contract_for(TABLE, REJECT)
    for _ in range(600):
        contract_for(TABLE, Inputs())
    assert contract_for(TABLE, DEFAULT).records(GOOD).rows == 1


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from([*GOOD, "x", ""]), inner, max_size=4),
    max_leaves=12,
)


@given(JUNK, st.sampled_from([TABLE, COLUMNS, BARE]), st.sampled_from([REJECT, CLIP, FLAG]))
def test_junk_is_an_invalid_input_and_nothing_else(inputs: Any, manifest: Manifest, handling: Inputs) -> None:
    """Whatever JSON arrives, the answer is tensors or a 4xx."""
    found: InvalidInput | None = None
    try:
        prepared = contract_for(manifest, handling).records(inputs)
    except InvalidInput as error:
        found = error
    if found is None:
        assert all(len(array) == prepared.rows for array in prepared.tensors.values())
    else:
        assert {fault.pointer.split("/")[1] for fault in found.faults} == {"inputs"}


PLAIN = Manifest(
    model="plain",
    inputs=(Tensor(name="X", datatype="FP32", shape=(-1, 2)),),
    features=(
        Feature(name="a", low=0.0, high=1.0, input="X", position=0),
        Feature(name="b", input="X", position=1),
    ),
)
ANYTHING = st.one_of(
    st.floats(-2.0, 2.0),
    st.integers(-3, 3),
    st.sampled_from([1e39, -1e39, 2.0**63, 2**70, math.nan, math.inf, None, "1", True, [1.0]]),
)
ROWS = st.lists(st.lists(ANYTHING, min_size=2, max_size=2), min_size=1, max_size=12)


@given(st.lists(ROWS, min_size=1, max_size=4), st.sampled_from([DEFAULT, REJECT, CLIP, FLAG]))
def test_inputs_looked_at_together_are_what_they_are_alone(many: list[list[list[Any]]], handling: Inputs) -> None:
    contract = contract_for(PLAIN, handling)
    found, _ = contract.clean(many)
    for inputs, together in zip(many, found, strict=True):
        if together is None:
            continue
        one_by_one = [contract.records([row]) for row in inputs]
        assert together.values == [next(iter(alone.values)) for alone in one_by_one]
        assert set(together.flags) == {flag for alone in one_by_one for flag in alone.flags}
        alone_tensors = np.concatenate([alone.tensors["X"] for alone in one_by_one])
        np.testing.assert_array_equal(together.tensors["X"], alone_tensors)


def test_many_rows_that_the_policy_only_flags_are_looked_at_as_a_table() -> None:
    rows = [[0.5, 1.0]] * 20 + [[1.5, 1.0]]
    found, _ = contract_for(PLAIN, FLAG).clean([rows])
    assert found[0] is not None
    assert found[0].flags == ("out_of_range",)
    assert contract_for(PLAIN, CLIP).clean([rows])[0] == [None]
    assert contract_for(PLAIN, FLAG).records(rows).flags == ("out_of_range",)
