"""How versions do on live traffic, as tables. Pure: what the admin API says of a model in, rows out.

Measured figures and estimates stand in columns of their own: an estimate is marked, never mixed in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

LIVE_HEADS = ["live", "role", "labels", "coverage", "delay p50", "p90", "newest labels", "value", "estimate"]
SLICE_HEADS = ["slice", "version", "role", "labels", "newest labels"]

_FIGURES = ("accuracy", "f1", "roc_auc", "mae", "rmse", "r2")


def live_rows(model: Mapping[str, Any]) -> list[list[str]]:
    """One row for each version and role that has answered."""
    return [
        [
            f"{model['name']}@{one['version']}",
            one["role"],
            str(one["labelled"] or ""),
            f"{one['coverage']:.0%}" if one["labels"] else "",
            _seconds(one["delay_seconds"].get("p50")),
            _seconds(one["delay_seconds"].get("p90")),
            figures(one["rolling"]),
            _value(one),
            _estimate(one["estimate"]),
        ]
        for one in model["live"]
    ]


def slice_rows(model: Mapping[str, Any]) -> list[list[str]]:
    """The weakest slices, the worst first."""
    return [
        [
            one["slice"],
            f"{model['name']}@{one['version']}",
            one["role"],
            str(one["rolling_labelled"]),
            figures(one["rolling"]),
        ]
        for one in model["slices"]
    ]


def online_line(model: Mapping[str, Any]) -> str:
    """The online model beside the champion, in one line; empty without one."""
    online = model["online"]
    if not online:
        return ""
    told = [f"online model {online['river']}: {online['learned']} labels learned"]
    fair = online["when_answered"]
    if fair["rows"]:
        told.append(
            f"newest {fair['rolling_rows']} rows, predicted when answered: {online['metric']} "
            f"{fair['rolling_online']:.4g} beside the champion's {fair['rolling_champion']:.4g}"
        )
    return "; ".join([*told, *([online["note"]] if online["note"] else [])])


def figures(rolling: Mapping[str, float]) -> str:
    """The figures that people ask for first."""
    return "  ".join(f"{name} {rolling[name]:.4g}" for name in _FIGURES if name in rolling)


def _value(one: Mapping[str, Any]) -> str:
    if one["value_mean"] is None:
        return ""
    interval: Sequence[float] | None = one["value_interval"]
    return f"{one['value_mean']:.4g}" + (f" ({interval[0]:.4g} to {interval[1]:.4g})" if interval else "")


def _estimate(estimate: Mapping[str, Any]) -> str:
    if not estimate:
        return ""
    rows, source = estimate["rows"], estimate["calibrated_on"]
    return f"accuracy ~{estimate['accuracy']:.3f} of the newest {rows} answers (by {source})"


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return f"{seconds:.3g} s" if seconds < 120 else f"{seconds / 60:.3g} min" if seconds < 7200 else _hours(seconds)


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:.3g} h" if seconds < 172_800 else f"{seconds / 86400:.3g} d"
