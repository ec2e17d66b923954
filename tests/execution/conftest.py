"""One admission server for the whole room: starting it costs more than a check."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gateway.execution.admission import AdmissionServer


@pytest.fixture(scope="session")
def server() -> Iterator[AdmissionServer]:
    with AdmissionServer() as running:
        yield running
