"""Every metric of the gateway, by its stable name. Counted in each process, summed by the control process.

Uses prometheus-client's multiprocess mode (files below DIR/run/metrics, named by the parent process in each child's
environment), so totals of ended processes stay. Labels come only from bounded sets: registered models, versions,
roles, fixed outcomes. Meaning and unit of each: docs/metrics.md.
"""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

_ONE = ("model", "version", "role")
_ONE_VERSION = ("model", "version")

LATENCY_BOUNDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
RUN_TIME_BOUNDS = (1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1.0)
"""Upper ends of the buckets, in seconds."""

requests = Counter("gateway_requests_total", "Answers by version", (*_ONE, "outcome"))
refused = Counter("gateway_refused_requests_total", "Requests answered with an error before a version ran", ("reason",))
latency = Histogram(
    "gateway_request_duration_seconds",
    "Time from a decoded request to its answer",
    _ONE,
    buckets=LATENCY_BOUNDS,
)
run_time = Histogram(
    "gateway_model_run_duration_seconds",
    "Run time of the model alone",
    _ONE,
    buckets=RUN_TIME_BOUNDS,
)
cache_lookups = Counter(
    "gateway_cache_lookups_total", "Answered requests by what the response cache did", (*_ONE, "result")
)
shadow_dropped = Counter("gateway_shadow_dropped_total", "Shadow copies that were not run", ("model", "reason"))
runner_ends = Counter(
    "gateway_runner_ends_total", "Processes of versions on trial that ended", ("model", "version", "cause")
)
champion_rescues = Counter(
    "gateway_champion_rescues_total", "Requests of lost canary runs that the champion answered", ("model", "version")
)
feedback = Counter("gateway_feedback_total", "Feedback items accepted")
weight = Gauge("gateway_route_weight_percent", "Share of live traffic by version", _ONE, multiprocess_mode="mostrecent")
challenger_pairs = Gauge(
    "gateway_challenger_pairs", "Answers compared with the champion's", _ONE_VERSION, multiprocess_mode="mostrecent"
)
challenger_failures = Gauge(
    "gateway_challenger_failure_ratio", "Share of runs that failed", _ONE_VERSION, multiprocess_mode="mostrecent"
)
challenger_disagreement = Gauge(
    "gateway_challenger_disagreement_ratio",
    "Share of compared rows that differ from the champion's",
    _ONE_VERSION,
    multiprocess_mode="mostrecent",
)
challenger_distance = Gauge(
    "gateway_challenger_output_distance",
    "Mean distance of compared rows, 0 to 1",
    _ONE_VERSION,
    multiprocess_mode="mostrecent",
)
challenger_latency = Gauge(
    "gateway_challenger_latency_ratio",
    "Median run time over the champion's",
    _ONE_VERSION,
    multiprocess_mode="mostrecent",
)
CHALLENGER_GAUGES = (
    challenger_pairs,
    challenger_failures,
    challenger_disagreement,
    challenger_distance,
    challenger_latency,
)
questions = Gauge(
    "gateway_retraining_questions", "1 while retraining asks for a person", ("model",), multiprocess_mode="mostrecent"
)
revision = Gauge("gateway_route_revision", "Route revision in force", ("model",), multiprocess_mode="max")
loads = Counter("gateway_version_loads_total", "Versions loaded", ("model", "outcome"))
loaded = Gauge("gateway_versions_loaded", "Versions loaded now", multiprocess_mode="livesum")
journal_records = Counter("gateway_journal_records_total", "Records handed to the kernel", ("stream",))
journal_bytes = Counter("gateway_journal_written_bytes_total", "Bytes handed to the kernel", ("stream",))
journal_dropped = Counter("gateway_journal_dropped_total", "Records that could not be written", ("stream",))
journal_damaged = Counter("gateway_journal_damaged_total", "Damaged records skipped by readers", ("stream",))
journal_lag = Gauge(
    "gateway_journal_lag_seconds", "How far a reader is behind", ("reader",), multiprocess_mode="mostrecent"
)
monitor_sampling = Gauge(
    "gateway_monitor_sampling_ratio", "Share of predictions that the detectors see", multiprocess_mode="mostrecent"
)
labels = Counter("gateway_labels_total", "Feedback by how it was joined", ("model", "outcome"))
accuracy = Gauge(
    "gateway_live_accuracy_ratio", "Rolling accuracy on joined labels", _ONE, multiprocess_mode="mostrecent"
)
performance = Gauge(
    "gateway_live_performance", "Rolling figures on joined labels", (*_ONE, "metric"), multiprocess_mode="mostrecent"
)
label_coverage = Gauge(
    "gateway_label_coverage_ratio", "Share of answered rows with a label", _ONE, multiprocess_mode="mostrecent"
)
label_delay = Gauge(
    "gateway_label_delay_seconds",
    "How long labels take, by quantile",
    (*_ONE, "quantile"),
    multiprocess_mode="mostrecent",
)
value_mean = Gauge(
    "gateway_business_value_mean", "Mean business value of answers", _ONE, multiprocess_mode="mostrecent"
)
estimated_accuracy = Gauge(
    "gateway_estimated_accuracy_ratio", "Accuracy estimated before labels", _ONE, multiprocess_mode="mostrecent"
)
online_performance = Gauge(
    "gateway_online_model_performance",
    "Rolling figure of the online model and of the champion on the same rows",
    ("model", "side", "metric"),
    multiprocess_mode="mostrecent",
)
alerts = Counter("gateway_alerts_total", "Alerts raised", ("model", "kind", "detector"))
jobs = Counter("gateway_jobs_total", "Retraining jobs by how they ended", ("model", "state"))
job_seconds = Counter("gateway_job_duration_seconds_total", "Time spent in retraining jobs", ("model",))
rollouts = Counter("gateway_rollouts_total", "Rollouts by how they ended", ("model", "phase"))
published = Counter("gateway_published_versions_total", "Versions published", ("model",))
