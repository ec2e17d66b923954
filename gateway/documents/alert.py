"""What people did about alerts, and the monitor's summary of a model.

The life of an alert: raised -> (acknowledged, silenced: by people, see `AlertHandling`) -> cleared (by the monitor).
"""

from __future__ import annotations

from typing import Any

from msgspec import Struct


class AlertHandling(Struct, frozen=True, kw_only=True):
    """A person's answer to an alert. Silenced alerts trigger nothing until `silenced_until` (seconds since 1970)."""

    alert: str
    acknowledged: bool = False
    acknowledged_by: str = ""
    silenced_until: float = 0.0
    reason: str = ""


class Live(Struct, frozen=True, kw_only=True):
    """Live figures of one version in one role; metrics by their `river.metrics` name in snake case.

    labels: feedback by what became of it. coverage: labelled rows / answered rows. value_interval: where the mean
    value is, with 95 % at all looks together. estimate: of the accuracy before labels come, see
    `gateway.monitor.figures.estimate`; a measurement it is not.
    """

    version: int
    role: str
    predictions: int = 0
    errors: int = 0
    labelled: int = 0
    metrics: dict[str, float] = {}
    rolling: dict[str, float] = {}
    value_mean: float | None = None
    values: int = 0
    value_interval: tuple[float, float] | None = None
    labels: dict[str, int] = {}
    coverage: float = 0.0
    delay_seconds: dict[str, float] = {}  # p50, p90, p99, within 2 percent
    estimate: dict[str, Any] = {}


class SliceLive(Struct, frozen=True, kw_only=True):
    """Live figures of one slice of a version's labelled rows; rolling: of those among its newest labels."""

    version: int
    role: str
    slice: str
    labelled: int = 0
    metrics: dict[str, float] = {}
    rolling: dict[str, float] = {}
    rolling_labelled: int = 0


class Monitoring(Struct, frozen=True, kw_only=True):
    """The monitor's latest summary of a model; rewritten at most once a second."""

    model: str
    time: float = 0.0
    offset: str = ""
    predictions: int = 0
    labels: dict[str, int] = {}  # joined, pending, unknown, duplicate, late, reused_id
    delay_seconds: dict[str, float] = {}  # p50, p90, p99
    coverage: float = 0.0
    monitored: bool = True
    note: str = ""  # "not monitored: no reference"
    detectors: list[dict[str, Any]] = []  # name, version, role, events, evidence, threshold, alarmed
    live: list[Live] = []
    alerts: list[dict[str, Any]] = []  # newest first, at most 50, each an Alert as a mapping plus time and state
    lag_seconds: float = 0.0
    sampled: bool = False
    sampling_rate: float = 1.0  # share of predictions that the detectors see; labels are all joined
    verdict: str = ""  # of the champion, now; empty: nothing stands against it
    response: str = ""
    verdicts: list[dict[str, Any]] = []  # version, role, verdict, response, alerts: of each that has latched alerts
    slices: list[SliceLive] = []
    online: dict[str, Any] = {}  # the online model beside the champion, see gateway.monitor.figures.online
