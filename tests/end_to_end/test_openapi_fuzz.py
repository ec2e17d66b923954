"""Schemathesis against the running gateway: no 5xx, no answer that the description does not hold."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from tests.end_to_end.running import FEATURES, RunningGateway

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

CHECKS = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")


def test_the_serving_api_answers_as_it_is_described(
    start_gateway: Callable[..., RunningGateway], model_file: Path, tmp_path: Path
) -> None:
    """Generated from the served model's own schema, valid and broken requests alike; the model answers afterwards."""
    gateway = start_gateway()
    gateway.publish("plain", model_file)
    gateway.wait_until_served("plain")
    described = httpx.get(f"{gateway.url}/openapi.json").json()["components"]["schemas"]["Predict.plain"]
    assert list(described["properties"]["inputs"]["anyOf"][0]["properties"]) == list(FEATURES)
    program = str(Path(sys.executable).with_name("st"))
    command = [program, "run", f"{gateway.url}/openapi.json", "--max-examples", "30", "--no-color"]
    done = subprocess.run(
        [*command, "--checks", ",".join(CHECKS)], cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    with httpx.Client() as client:
        assert gateway.predict(client, "plain").status_code == 200
