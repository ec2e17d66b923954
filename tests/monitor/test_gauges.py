"""Live figures as metrics: every number that is known, under the labels that the docs name."""

from __future__ import annotations

from prometheus_client import REGISTRY

from gateway.documents.alert import Live, Monitoring
from gateway.monitor.figures.gauges import show


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, {"model": "gauged", **labels})


def test_what_is_known_is_shown_and_nothing_else() -> None:
    """A gauge at 0 for what nobody measured would page somebody."""
    seen = Live(
        version=3, role="canary", rolling={"accuracy": 0.8, "f1": 0.7}, labels={"joined": 5}, coverage=0.5,
        delay_seconds={"p50": 1.0, "p99": 9.0}, value_mean=2.5, estimate={"accuracy": 0.75},
    )  # fmt: skip
    fresh = Live(version=4, role="champion", predictions=3)
    online = {"metric": "mae", "when_answered": {"rolling_online": 1.5, "rolling_champion": 1.25}}
    show(Monitoring(model="gauged", live=[seen, fresh], online=online))
    one = {"version": "3", "role": "canary"}
    assert value("gateway_live_accuracy_ratio", **one) == 0.8
    assert value("gateway_live_performance", **one, metric="f1") == 0.7
    assert value("gateway_label_coverage_ratio", **one) == 0.5
    assert value("gateway_label_delay_seconds", **one, quantile="0.99") == 9.0
    assert value("gateway_business_value_mean", **one) == 2.5
    assert value("gateway_estimated_accuracy_ratio", **one) == 0.75
    assert value("gateway_online_model_performance", side="champion", metric="mae") == 1.25
    for name in ("label_coverage_ratio", "estimated_accuracy_ratio", "business_value_mean", "live_accuracy_ratio"):
        assert value(f"gateway_{name}", version="4", role="champion") is None


def test_a_summary_without_labels_sets_nothing() -> None:
    show(Monitoring(model="silent"))
    assert REGISTRY.get_sample_value("gateway_live_accuracy_ratio", {"model": "silent"}) is None
