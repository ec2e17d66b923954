"""The rival of the loop: a job in so many labels, whatever the alerts say."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.demo.run import main
from gateway.demo.schedule import scheduled, write_scheduled
from gateway.demo.stream import COURSES
from gateway.documents.parse import parse_policy
from gateway.errors import InvalidConfig

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", COURSES)
def test_the_scheduled_policy_is_one_and_trains_by_labels_alone(tmp_path: Path, name: str) -> None:
    """The gateway reads it; no alert starts a job, and versions take the short plan that those of alerts take."""
    written = write_scheduled(ROOT, tmp_path, name, 1_000) / f"{name}.yaml"
    policy = parse_policy(written.read_text(), str(written))
    own = parse_policy((ROOT / "router_config" / f"{name}.yaml").read_text(), name)
    assert not policy.retraining.triggers.error_drift
    assert policy.retraining.triggers.labels == 1_000
    assert policy.retraining.guards.cooldown_labels <= 1_000
    assert policy.rollout.steps == own.rollout.expedited
    assert policy.retraining.windows == own.retraining.windows
    assert policy.retraining.gate == own.retraining.gate


def test_what_it_is_made_from_stays_as_it_is() -> None:
    policy = {"retraining": {"triggers": {"error_drift": True}, "guards": {"cooldown_labels": 750}}}
    assert scheduled(policy, 500)["retraining"]["guards"] == {"cooldown_labels": 500}
    assert policy["retraining"] == {"triggers": {"error_drift": True}, "guards": {"cooldown_labels": 750}}


def test_an_unknown_stream_is_refused_by_name() -> None:
    with pytest.raises(InvalidConfig, match="there is no 'weather', only electricity, sea, covertype"):
        main(stream="weather", fast=True, keep=False, as_json=True, rows_per_second=None, data=None)
