"""Publishing by multipart: bare files, samples, packages; refused without a trace; the same again is the same."""

from __future__ import annotations

import json
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from gateway.api.admin.publish import Upload as Uploaded
from gateway.api.admin.publish import draft_of
from gateway.errors import InvalidInput, Unavailable
from gateway.names import Revision
from gateway.registry.reference import REFERENCE_FILE, read_reference
from tests.api.admin.conftest import Office

PATH = "/admin/models/doubles/versions"
SAMPLE = "amount,age,other\n1,20,x\n2,30,y\n5,,x\n"


def model(factor: float = 2.0) -> bytes:
    """Two numbers in, the same times a factor out."""
    graph = helper.make_graph(
        [helper.make_node("Mul", ["X", "factor"], ["score"])],
        "doubles",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, 2])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, [None, 2])],
        [onnx.numpy_helper.from_array(np.array([factor], np.float32), "factor")],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    made.ir_version = 8
    content: bytes = made.SerializeToString()
    return content


Parts = dict[str, tuple[str, bytes]]


def parts(**more: tuple[str, bytes]) -> Parts:
    return {"model": ("model.onnx", model()), **more}


def manifest(**content: Any) -> tuple[str, bytes]:
    return ("manifest.json", json.dumps(content).encode())


async def test_a_bare_file_becomes_a_version_and_the_same_again_is_the_same(
    admin: httpx.AsyncClient, office: Office
) -> None:
    """Retrying a publish whose answer was lost must not make a second version."""
    named = manifest(features=[{"name": "amount"}, {"name": "age"}])
    answer = await admin.post(PATH, files=parts(manifest=named))
    assert answer.status_code == 201, answer.text
    content = answer.json()
    assert (content["version"], content["model"], content["number"], content["new"]) == (
        "doubles@1",
        "doubles",
        1,
        True,
    )
    assert "first version" in content["next"]
    again = await admin.post(PATH, files=parts(manifest=named))
    assert (again.status_code, again.json()["version"], again.json()["new"]) == (200, "doubles@1", False)
    other = await admin.post(PATH, files={"model": ("model.onnx", model(3.0))}, data={"manifest": named[1].decode()})
    assert (other.status_code, other.json()["version"]) == (201, "doubles@2")
    shown = (await admin.get(f"{PATH}/1")).json()
    assert [feature["name"] for feature in shown["features"]] == ["amount", "age"]
    assert await office.audit() == ["all publish", "all publish"]


async def test_a_publish_that_was_cut_off_is_written_down_by_its_repetition(
    admin: httpx.AsyncClient, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The version and its audit entry lie in two stores: who repeats the call closes the gap, once."""
    put = office.config.put

    async def dies(*_: Any) -> Revision:
        raise Unavailable("the process ends here")

    monkeypatch.setattr(office.config, "put", dies)
    assert (await admin.post(PATH, files=parts())).status_code == 503
    monkeypatch.setattr(office.config, "put", put)
    assert await office.audit() == []
    for _ in range(2):
        again = await admin.post(PATH, files=parts())
        assert (again.status_code, again.json()["version"]) == (200, "doubles@1")
    [entry] = [entry for entry in await office.config.audit(0, 100) if entry.action == "publish"]
    assert (entry.subject, "cut off" in entry.reason) == ("doubles@1", True)


async def test_a_sample_adds_names_contract_and_reference(admin: httpx.AsyncClient, office: Office) -> None:
    named = manifest(features=[{"name": "age"}, {"name": "amount"}])
    answer = await admin.post(PATH, files=parts(manifest=named, reference=("sample.csv", SAMPLE.encode())))
    assert answer.status_code == 201, answer.text
    shown = (await admin.get(f"{PATH}/1")).json()
    assert [(f["name"], f["low"], f["high"], f["may_be_missing"]) for f in shown["features"]] == [
        ("age", 20.0, 30.0, True),
        ("amount", 1.0, 5.0, False),
    ]
    assert REFERENCE_FILE in shown["files"]


def test_what_the_publisher_writes_of_a_feature_wins_over_the_sample() -> None:
    written = {"features": [{"name": "amount", "low": 0, "high": 1000}, {"name": "age"}]}
    draft, reference = draft_of("doubles", Uploaded(model=b"m", manifest=written, sample=SAMPLE), 1.0)  # type: ignore[arg-type]
    assert [(f.name, f.high) for f in draft.features] == [("amount", 1000), ("age", 30.0)]
    assert reference is not None
    assert read_reference(reference).rows == 3


def test_number_and_time_are_never_the_publishers() -> None:
    draft, _ = draft_of("m", Uploaded(model=b"m", manifest={"number": 7, "created": 1.0}), 9.0)  # type: ignore[arg-type]
    assert (draft.number, draft.created) == (0, 9.0)
    with pytest.raises(InvalidInput, match="the path says"):
        draft_of("m", Uploaded(model=b"m", manifest={"model": "other"}), 9.0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sent", "status", "text"),
    [
        ({}, 400, "part model"),
        ({"model": ("model.onnx", b"")}, 400, "part model"),
        ({"model": ("model.onnx", b"not a model")}, 422, "not an ONNX model"),
        ({"model": ("model.onnx", model()[:-20])}, 422, "ONNX"),
        (parts(manifest=("manifest.json", b"{")), 400, "JSON"),
        (parts(manifest=("manifest.json", b"[]")), 400, "/manifest"),
        (parts(manifest=("manifest.json", b"{")), 400, "/manifest"),
        (parts(manifest=manifest(features=[{"nam": "a"}])), 400, "name"),
        (parts(manifest=manifest(features=[{"name": "a"}])), 422, "2 columns"),
        (parts(manifest=manifest(model="other")), 400, "/manifest/model"),
        (parts(reference=("sample.csv", b"amount\n1\n2,3\n")), 400, "line 3"),
        (parts(reference=("sample.csv", b"\xff\xfe\x00")), 400, "UTF-8"),
        (parts(reference=("reference.json", b"{}")), 400, "reference.json"),
        (parts(readme=("readme.txt", b"hello")), 400, "readme"),
    ],
)
async def test_what_can_not_be_published_leaves_nothing(
    admin: httpx.AsyncClient, office: Office, sent: Parts, status: int, text: str
) -> None:
    files: Any = sent or {"reference": ("sample.csv", b"a\n1\n")}
    answer = await admin.post(PATH, files=files)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert text in answer.text
    assert await office.stores.registry.versions("doubles") == []  # type: ignore[arg-type]
    assert await office.audit() == []


async def test_only_multipart_is_taken(admin: httpx.AsyncClient) -> None:
    answer = await admin.post(PATH, content=model())
    assert answer.status_code == 400
    assert "multipart" in answer.json()["detail"]


PART = b'--b\r\nContent-Disposition: form-data; name="model"; filename="m"\r\n\r\nx\r\n'


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("multipart/form-data", b"xx"),
        ("multipart/form-data; boundary=b", b"xx"),
        ("multipart/form-data; boundary=b", b"--b\r\nno header\r\n\r\nx\r\n--b--\r\n"),
        ("multipart/form-data; boundary=b", b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--\r\n"),
        ("multipart/form-data; boundary=b", PART * 9 + b"--b--\r\n"),
        ("multipart/form-data; boundary=b", b"--b--\r\n"),
    ],
    ids=["no boundary", "no part", "no header", "no name", "too many parts", "empty"],
)
async def test_broken_multipart_is_the_publishers_fault(admin: httpx.AsyncClient, kind: str, content: bytes) -> None:
    """And is told as every other wrong body is."""
    answer = await admin.post(PATH, content=content, headers={"content-type": kind})
    problem = answer.json()
    assert (answer.status_code, problem["type"]) == (400, "urn:gateway:problem:invalid-input"), problem
    assert problem["errors"][0]["detail"] in problem["detail"]


async def test_uploads_are_limited_before_and_while_they_are_read(office: Office) -> None:
    """The limit holds whether or not the caller says how much is coming."""
    async with office.client(max_package_bytes=2000) as client:
        big = {"model": ("model.onnx", b"x" * 5000)}
        assert (await client.post(PATH, files=big)).status_code == 413

        async def chunks() -> Any:
            yield b'--b\r\nContent-Disposition: form-data; name="model"; filename="m"\r\n\r\n'
            for _ in range(10):
                yield b"x" * 1000

        kind = {"content-type": "multipart/form-data; boundary=b"}
        assert (await client.post(PATH, content=chunks(), headers=kind)).status_code == 413
