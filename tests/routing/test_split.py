"""The split is a contract with every other process and language: it is fixed by data, not by this code."""

from __future__ import annotations

import json
from pathlib import Path

from gateway.routing.split import bucket, sampled

VECTORS = json.loads((Path(__file__).parent.parent / "vectors" / "routing.json").read_text())


def test_buckets_are_those_of_the_published_vectors() -> None:
    """Another client must come to the same bucket from the same salt and key."""
    for vector in VECTORS["buckets"]:
        assert bucket(vector["salt"], vector["key"]) == vector["bucket"], vector


def test_buckets_of_many_keys_fill_evenly() -> None:
    """100,000 keys over 100 groups of buckets: no group is off by more than 5 standard deviations."""
    groups = [0] * 100
    for number in range(100_000):
        groups[bucket("salt", f"user-{number}") // 100] += 1
    assert max(abs(count - 1000) for count in groups) < 5 * 1000**0.5


def test_another_salt_moves_most_keys() -> None:
    """A renewed salt re-draws everybody, so that one group of users is not always the first to try."""
    same = sum(bucket("a", str(n)) == bucket("b", str(n)) for n in range(10_000))
    assert same < 20


def test_a_share_samples_its_part_of_requests_and_always_the_same_ones() -> None:
    """Sampling hashes the prediction id: a replay picks the same copies."""
    chosen = [sampled("s", 2, f"id-{n}", 2_500) for n in range(20_000)]
    assert abs(sum(chosen) / 20_000 - 0.25) < 0.015
    assert chosen == [sampled("s", 2, f"id-{n}", 2_500) for n in range(20_000)]
    assert sampled("s", 2, "any", 10_000)
    assert not sampled("s", 2, "any", 0)
