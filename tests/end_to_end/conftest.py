"""Real processes and real clients: a gateway started by its own command on free loopback ports."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.end_to_end.running import RunningGateway, small_model


@pytest.fixture(scope="session")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier exported by plain `skl2onnx.to_onnx(clf, X)`, as any scikit-learn user writes it."""
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    path.write_bytes(small_model(seed=0))
    return path


@pytest.fixture
def start_gateway(tmp_path: Path) -> Iterator[Callable[..., RunningGateway]]:
    """Start gateways; all of them are stopped when the test ends, whatever happened."""
    running: list[RunningGateway] = []

    def start(**options: object) -> RunningGateway:
        gateway = RunningGateway(tmp_path / f"data{len(running)}", **options)  # type: ignore[arg-type]
        running.append(gateway)
        gateway.wait_until_live()
        return gateway

    yield start
    for gateway in running:
        gateway.stop()
