"""Which predictions the detectors see while the monitor can not keep up, and when that begins and ends.

Labels are always joined; only what is bet on and averaged is sampled. By a hash of the prediction id, so that whoever
folds the same stretch at the same rate sees the same predictions, and a prediction's shadows and labels come with it.
Pure: the shell tells the lag and the clock, writes down the rate and says so.
"""

from __future__ import annotations

import hashlib
from typing import Final, Literal

from msgspec import Struct
from msgspec.structs import replace

EVERYTHING: Final = 1.0
SMALLEST: Final = 1 / 64

_BEHIND_SECONDS: Final = 1.0
_NEAR_SECONDS: Final = 0.5
_SETTLE_SECONDS: Final = 2.0
"""How long a lag is watched before it is judged."""

_CATCHING_UP: Final = 0.1
"""A lag that falls by so many seconds a second goes away by itself: after a stop, for example."""

_CALM_SECONDS: Final = 15.0
_LONGEST_CALM_SECONDS: Final = 600.0
_TOO_SOON_SECONDS: Final = 60.0
"""A raised rate that has to be lowered within this time was raised too soon: the next one waits twice as long."""

_HASHES: Final = 2.0**64


def is_sampled(id_: str, rate: float) -> bool:
    """Whether a prediction is in the sample; what is in at some rate is in at every higher one.

    Compares a 64-bit BLAKE2b of the id, personalised so that it has nothing in common with the routing split.
    """
    if rate >= EVERYTHING:
        return True
    digest = hashlib.blake2b(id_.encode(), digest_size=8, person=b"monitor").digest()
    return int.from_bytes(digest, "little") < rate * _HASHES


class Pace(Struct, frozen=True, kw_only=True):
    """How well the monitor keeps up.

    rate: the share of predictions in the sample. side: how far behind it is, since `since` with `lag` seconds then.
    calm_seconds: how long it must be near before the rate is raised. raised: when it was last raised.
    """

    rate: float = EVERYTHING
    side: Literal["near", "between", "behind"] = "near"
    since: float = 0.0
    lag: float = 0.0
    calm_seconds: float = _CALM_SECONDS
    raised: float | None = None


def next_pace(pace: Pace, lag_seconds: float, now: float) -> Pace:
    """Halve the rate when the lag is large and does not go away, double it after a calm time. now: any steady clock."""
    side = _side(lag_seconds)
    if side != pace.side:
        return replace(pace, side=side, since=now, lag=lag_seconds)
    passed = now - pace.since
    if side == "behind" and passed >= _SETTLE_SECONDS:
        looked = replace(pace, since=now, lag=lag_seconds)
        stays = pace.lag - lag_seconds < _CATCHING_UP * passed
        return _lowered(looked, now) if stays and pace.rate > SMALLEST else looked
    if side == "near" and pace.rate < EVERYTHING and passed >= pace.calm_seconds:
        return replace(pace, rate=min(EVERYTHING, 2 * pace.rate), since=now, lag=lag_seconds, raised=now)
    if side == "near" and passed >= _LONGEST_CALM_SECONDS:
        return replace(pace, calm_seconds=_CALM_SECONDS)
    return pace


def _side(lag_seconds: float) -> Literal["near", "between", "behind"]:
    if lag_seconds > _BEHIND_SECONDS:
        return "behind"
    return "near" if lag_seconds <= _NEAR_SECONDS else "between"


def _lowered(pace: Pace, now: float) -> Pace:
    too_soon = pace.raised is not None and now - pace.raised < _TOO_SOON_SECONDS
    calm = min(_LONGEST_CALM_SECONDS, 2 * pace.calm_seconds) if too_soon else pace.calm_seconds
    return replace(pace, rate=pace.rate / 2, calm_seconds=calm)
