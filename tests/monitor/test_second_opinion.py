"""river's detectors as plug-ins: wrong names are told with what there is; states that can not be read start again."""

from __future__ import annotations

import pickle
from pathlib import Path

import msgspec
import numpy as np
import pytest

from gateway.errors import InvalidConfig
from gateway.monitor.detectors.second_opinion import SecondOpinion


def test_an_unknown_class_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidConfig, match=r"no detector 'ADWINN'.*ADWIN"):
        SecondOpinion("ADWINN")


def test_a_wrong_parameter_is_refused_by_name() -> None:
    with pytest.raises(InvalidConfig, match="delte"):
        SecondOpinion("ADWIN", {"delte": 0.1})


def test_fewer_errors_are_no_alarm_when_only_a_rise_counts() -> None:
    """ADWIN is two-sided; a model that became better must not be retrained for it."""
    better = np.concatenate([np.tile([1.0, 0.0], 500), np.zeros(500)])
    assert SecondOpinion("ADWIN").update(better).alarmed
    assert not SecondOpinion("ADWIN", rising=True).update(better).alarmed
    worse = np.concatenate([np.zeros(500), np.tile([1.0, 0.0], 500)])
    assert SecondOpinion("ADWIN", rising=True).update(worse).alarmed


def test_estimates_where_the_change_was_from_adwins_window() -> None:
    stream = np.concatenate([np.zeros(1000), np.tile([1.0, 0.0], 500)])
    verdict = SecondOpinion("ADWIN").update(stream)
    assert 700 < verdict.since <= verdict.event


def test_a_state_that_can_not_be_read_starts_again() -> None:
    """A new river may not read the old one's objects: the monitor goes on with a fresh detector."""
    broken = msgspec.msgpack.encode((100, 0.5, 0.5, b"not a pickle"))
    other = msgspec.msgpack.encode((100, 0.5, 0.5, pickle.dumps(Path())))
    for state in (broken, other):
        detector = SecondOpinion("ADWIN").restored(state)
        assert not detector.update(np.array([0.5])).alarmed


def test_the_same_stream_gives_the_same_alarms_where_chance_is_inside() -> None:
    """KSWIN samples; its seed is fixed, so a replay is the same."""
    values = np.random.default_rng(2).normal(size=1500)
    assert SecondOpinion("KSWIN").update(values) == SecondOpinion("KSWIN").update(values)


@pytest.mark.parametrize("name", ["ADWIN", "KSWIN", "PageHinkley"])
def test_an_infinite_value_is_no_evidence(name: str) -> None:
    """It would poison river's sums for ever, so that the detector never spoke again."""
    detector = SecondOpinion(name)
    values = np.random.default_rng(4).normal(size=300)
    detector.update(np.concatenate([values, [np.inf, -np.inf]]))
    assert detector.update(values + 10).alarmed
