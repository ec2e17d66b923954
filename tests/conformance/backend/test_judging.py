"""The replay's judgement: what must be right, what may be refused, what is never allowed."""

from __future__ import annotations

from pathlib import Path

import httpx
import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="the engine is in the gateway's own environment")

from tests.conformance.backend.asking import ask_binary, ask_json, from_bytes, is_json, to_bytes
from tests.conformance.backend.replay import Verdict, closing_lines, faults_of
from tests.conformance.backend.suite import Case, Kind, Sample, is_right


def case(kind: Kind) -> Case:
    return Case("test_x", Path("model.onnx"), kind)


@pytest.mark.parametrize(
    ("kind", "refusal", "wrong", "is_fault"),
    [
        (Kind.INFER, "", [], False),
        (Kind.INFER, "names", [], True),
        (Kind.INFER, "", ["json: 200 y is another value in JSON"], True),
        (Kind.NO_TENSOR, "sequences", [], False),
        (Kind.NO_TENSOR, "", [], True),
        (Kind.NO_DATATYPE, "bfloat16", ["500 for a model that was refused"], True),
        (Kind.ENGINE, "", ["binary: 200 y is another value in binary"], False),
        (Kind.ENGINE, "", ["json: 400 wrong"], False),
        (Kind.ENGINE, "", ["json: 500 failed"], True),
        (Kind.ENGINE, "", ["binary: 503 not now"], True),
    ],
)
def test_what_counts_as_a_fault(kind: Kind, refusal: str, wrong: list[str], is_fault: bool) -> None:
    verdict = Verdict(case(kind), refusal, wrong=wrong)
    assert bool(faults_of(verdict)) is is_fault
    line = next(line for line in closing_lines([verdict], {"all": 1.0}) if line.startswith(kind))
    assert f"{0 if is_fault else 1} of" in line


def answering(value: float | None, *, non_finite: int = 0) -> httpx.Client:
    """A server that answers one number to everything."""
    output = {"name": "y", "datatype": "FP32", "shape": [1], "data": [value]}
    parameters = {"non_finite": non_finite} if non_finite else {}
    content = {"outputs": [output], "parameters": parameters}
    return httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(200, json=content)))


@pytest.mark.parametrize(
    ("value", "non_finite", "wanted", "told"),
    [
        (2.0, 0, 2.0, ""),
        (2.0001, 0, 2.0, ""),
        (2.1, 0, 2.0, "another value"),
        (None, 1, np.inf, ""),
        (None, 0, np.inf, "non_finite"),
        (None, 1, 2.0, "another value"),
    ],
)
def test_an_answer_in_json_is_judged(value: float | None, non_finite: int, wanted: float, told: str) -> None:
    sample = Sample({"x": np.array([1.0], np.float32)}, {"y": np.array([wanted], np.float32)})
    with answering(value, non_finite=non_finite) as client:
        found = ask_json(client, "http://server/infer", sample)
    assert told in found
    assert bool(found) is bool(told)


def test_a_refusal_keeps_its_status() -> None:
    sample = Sample({"x": np.array([np.nan], np.float32)}, {})
    assert not is_json(sample)
    with httpx.Client(transport=httpx.MockTransport(lambda request: httpx.Response(500, text="oh"))) as client:
        assert ask_binary(client, "http://server/infer", sample) == "500 oh"


def test_shape_and_datatype_count() -> None:
    wanted = np.array([[1.0, np.nan]], np.float32)
    assert is_right(wanted.copy(), wanted)
    assert not is_right(wanted[0], wanted)
    assert not is_right(wanted.astype(np.float64), wanted)
    texts = np.array(["", "grün"], np.object_)
    assert from_bytes(to_bytes(texts), "BYTES", [2]).tolist() == texts.tolist()
