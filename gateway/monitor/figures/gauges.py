"""A model's summary as metrics. Slices are left out: their names come from the data, and labels must be bounded."""

from __future__ import annotations

from gateway import metrics
from gateway.documents.alert import Live, Monitoring
from gateway.monitor.figures.delay import PERCENTILES


def show(summary: Monitoring) -> None:
    """Set every gauge of live figures that the summary has a number for."""
    for figures in summary.live:
        _show_version(summary.model, figures)
    fair = summary.online.get("when_answered", {})
    for side in ("online", "champion"):
        if (value := fair.get(f"rolling_{side}")) is not None:
            metrics.online_performance.labels(summary.model, side, summary.online["metric"]).set(value)


def _show_version(model: str, figures: Live) -> None:
    one = (model, str(figures.version), figures.role)
    if (accuracy := figures.rolling.get("accuracy")) is not None:
        metrics.accuracy.labels(*one).set(accuracy)
    for name, value in figures.rolling.items():
        metrics.performance.labels(*one, name).set(value)
    if figures.labels:
        metrics.label_coverage.labels(*one).set(figures.coverage)
    for name, seconds in figures.delay_seconds.items():
        metrics.label_delay.labels(*one, str(PERCENTILES[name])).set(seconds)
    if figures.value_mean is not None:
        metrics.value_mean.labels(*one).set(figures.value_mean)
    if (estimated := figures.estimate.get("accuracy")) is not None:
        metrics.estimated_accuracy.labels(*one).set(estimated)
