"""The statistics extension: counters of a version as the protocol's clients read them."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from prometheus_client import CollectorRegistry, Counter, Histogram

from gateway.api.statistics import Counted, counted_in, read_counted, version_stats


def registry() -> CollectorRegistry:
    """Three good answers of a champion, one failed, two runs of a shadow; another metric with the same labels."""
    made = CollectorRegistry()
    one = ("model", "version", "role")
    requests = Counter("gateway_requests_total", "-", (*one, "outcome"), registry=made)
    latency = Histogram("gateway_request_duration_seconds", "-", one, registry=made)
    run_time = Histogram("gateway_model_run_duration_seconds", "-", one, registry=made)
    Counter("gateway_other_total", "-", one, registry=made).labels("m", "1", "champion").inc(99)
    requests.labels("m", "1", "champion", "ok").inc(3)
    requests.labels("m", "1", "champion", "error").inc(1)
    requests.labels("m", "2", "shadow", "ok").inc(2)
    for _ in range(4):
        latency.labels("m", "1", "champion").observe(0.5)
        run_time.labels("m", "1", "champion").observe(0.25)
    run_time.labels("m", "2", "shadow").observe(0.125)
    return made


def test_live_answers_are_inferences_and_shadow_runs_only_executions() -> None:
    found = counted_in(registry().collect())
    assert found == {
        ("m", "1"): Counted(answered=3, failed=1, executed=3, answer_seconds=2.0, runs=4, run_seconds=1.0),
        ("m", "2"): Counted(executed=2, runs=1, run_seconds=0.125),
    }


def test_an_entry_has_the_shape_that_clients_read() -> None:
    entry = version_stats(
        "m", 1, Counted(answered=3, failed=1, executed=5, answer_seconds=0.5, runs=6, run_seconds=0.25)
    )
    assert (entry["name"], entry["version"]) == ("m", "1")
    assert (entry["inference_count"], entry["execution_count"]) == (3, 5)
    assert entry["inference_stats"]["success"] == {"count": 3, "ns": 500_000_000}
    assert entry["inference_stats"]["fail"]["count"] == 1
    assert entry["inference_stats"]["compute_infer"] == {"count": 6, "ns": 250_000_000}
    assert entry["inference_stats"]["queue"] == {"count": 0, "ns": 0}


def test_without_mapped_files_this_process_is_read(tmp_path: Path) -> None:
    assert isinstance(read_counted(tmp_path / "metrics"), dict)


@pytest.mark.parametrize(
    ("path", "versions"),
    [
        ("/v2/models/stats", ["3", "4"]),
        ("/v2/models/electricity/stats", ["3", "4"]),
        ("/v2/models/electricity/versions/4/stats", ["4"]),
    ],
)
async def test_every_served_version_has_an_entry(client: httpx.AsyncClient, path: str, versions: list[str]) -> None:
    answer = await client.get(path)
    assert answer.status_code == 200
    assert [entry["version"] for entry in answer.json()["model_stats"]] == versions


@pytest.mark.parametrize("path", ["/v2/models/gas/stats", "/v2/models/electricity/versions/9/stats"])
async def test_what_is_not_served_has_no_statistics(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 404
    assert list(answer.json()) == ["error"]
