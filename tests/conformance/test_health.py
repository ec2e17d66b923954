"""Liveness, readiness, metadata and the extensions that only tell."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conformance.models import MODELS, TYPES


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready"])
def test_the_server_lives_and_is_ready(server: Any, path: str) -> None:
    assert server.get(path).status_code == 200


@pytest.mark.parametrize("path", ["/v2", "/v2/"])
def test_the_server_names_itself_with_and_without_a_slash(server: Any, path: str) -> None:
    """The specification's YAML has the slash, its text has not; a redirect breaks clients."""
    answer = server.get(path)
    assert answer.status_code == 200
    assert {"name", "version", "extensions"} <= answer.json().keys()


@pytest.mark.needs("types")
def test_metadata_is_the_signature(server: Any) -> None:
    found = server.get("/v2/models/conformance_types").json()
    assert found["name"] == "conformance_types"
    assert found["platform"]
    assert {one["name"]: one["datatype"] for one in found["inputs"]} == {f"in_{t.lower()}": t for t in TYPES}
    assert {one["name"]: one["datatype"] for one in found["outputs"]} == {f"out_{t.lower()}": t for t in TYPES}
    assert all(one["shape"] == [-1, 2] for one in found["inputs"])


@pytest.mark.needs("scalar", "nothing", "fixed")
def test_metadata_of_unusual_shapes(server: Any) -> None:
    assert server.get("/v2/models/conformance_scalar").json()["inputs"][0]["shape"] == []
    assert server.get("/v2/models/conformance_nothing").json()["inputs"] == []
    assert server.get("/v2/models/conformance_fixed").json()["inputs"][0]["shape"] == [3, 2]


@pytest.mark.needs("sums")
def test_a_version_has_the_same_calls(server: Any) -> None:
    versions = server.get("/v2/models/conformance_sums").json().get("versions")
    if not versions:
        pytest.skip("the server has no versions")
    path = f"/v2/models/conformance_sums/versions/{versions[-1]}"
    assert server.get(f"{path}/ready").status_code == 200
    assert [one["name"] for one in server.get(path).json()["inputs"]] == ["a", "b"]


@pytest.mark.parametrize("path", ["/v2/models/no_such_model", "/v2/models/no_such_model/ready"])
def test_an_unknown_model_is_an_error(server: Any, path: str) -> None:
    assert 400 <= server.get(path).status_code < 500
    assert isinstance(server.get("/v2/models/no_such_model").json()["error"], str)


def test_every_model_of_the_suite_is_there_when_we_started_the_server(server: Any, has: Any) -> None:
    """Only then a skipped test is a mistake."""
    if server.started is None:
        pytest.skip("another server may lack models")
    assert [name for name in MODELS if not has(name)] == []
