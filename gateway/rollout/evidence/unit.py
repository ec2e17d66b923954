"""Sticky units: a caller with a key always meets the same version, so its bad answers come together.

Ten failures of one caller are one draw of the split, not ten; counted one by one, a healthy canary that got the one
caller with bad inputs would be rolled back. The unit is the bucket, which is what the journal knows of a key.
"""

from __future__ import annotations


class Units:
    """Which bad events of keyed answers count, by kind of event. Memory: at most 10,000 buckets for each kind."""

    def __init__(self) -> None:
        self._counted: dict[tuple[str, int], tuple[bool, float]] = {}

    def weight(self, kind: str, bucket: int, is_trial: bool, weight: float) -> float | None:
        """The share with which this event may be the version on trial's; None: the event says nothing new.

        weight: the version's share of the split now. While that stays, one event of a bucket and kind counts. A
        version keeps its buckets when its weight grows and wins some of the reference's, so of a bucket that was
        counted before it is known who has it, or with which chance it went over.
        """
        before = self._counted.get((kind, bucket))
        self._counted[kind, bucket] = (is_trial, weight)
        if before is None:
            return weight
        was_trial, old = before
        if weight >= old:
            chance = 1.0 if was_trial or old >= 1.0 else (weight - old) / (1.0 - old)
        else:
            chance = weight / old if was_trial else 0.0
        return chance if 0.0 < chance < 1.0 else None
