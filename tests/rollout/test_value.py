"""The business value as a guard: what is held against what, and when it says no."""

from __future__ import annotations

import numpy as np
import pytest

from gateway.rollout.evidence.value import KEPT, Values

LIMIT = float(np.log(20))


def _evidence(rng: np.random.Generator, champion: np.ndarray, canary: np.ndarray, better: str = "higher") -> float:
    """Evidence after both arms' values came in, mixed at random."""
    values = Values(0.05, better)
    is_trial = rng.permutation(np.repeat([False, True], [champion.size, canary.size]))
    left = {False: list(champion), True: list(canary)}
    for trial in is_trial.tolist():
        values.add(trial, float(left[trial].pop()), True)
    return values.log


def test_a_value_is_held_against_the_latest_one_of_the_champion() -> None:
    """And each of them is used once: without a champion's value left there is nothing to compare."""
    values = Values(0.05, "higher")
    for value in (5.0, 1.0):
        values.add(False, value, True)
    values.add(True, 1.0, True)
    assert values.log == 0.0  # the same as the latest: no difference, and no scale to measure one by
    values.add(True, 3.0, True)
    assert values.log == 0.0  # the first difference only sets the scale
    values.add(True, 0.0, True)
    assert values.log == 0.0  # nothing left to hold it against
    values.add(False, 9.0, True)
    values.add(True, 3.0, True)
    assert values.log > 0.0
    assert (values.count(True), values.mean(True), values.count(False), values.mean(False)) == (4, 1.75, 3, 5.0)


@pytest.mark.parametrize(("better", "factor", "fails"), [("higher", 0.8, True), ("higher", 1.25, False),
                                                         ("lower", 1.25, True), ("lower", 0.8, False)])  # fmt: skip
def test_the_guard_knows_which_side_is_better(better: str, factor: float, fails: bool) -> None:
    """A canary that earns a fifth less is found in some thousand values, whatever the money is counted in."""
    rng = np.random.default_rng(3)
    champion, canary = 100 * rng.lognormal(0, 0.5, 9000), factor * 100 * rng.lognormal(0, 0.5, 1000)
    assert (_evidence(rng, champion, canary, better) >= LIMIT) is fails


@pytest.mark.parametrize("kind", ["clicks", "heavy"])
def test_equal_values_are_no_evidence(kind: str) -> None:
    """Rare clicks and values without a variance: at most one false alarm in twenty."""
    rng = np.random.default_rng(4)

    def draw(count: int) -> np.ndarray:
        return (rng.random(count) < 0.05).astype(float) if kind == "clicks" else rng.standard_cauchy(count)

    alarms = [_evidence(rng, draw(1500), draw(500)) >= LIMIT for _ in range(60)]
    assert sum(alarms) <= 3


def test_old_values_of_the_champion_are_given_up() -> None:
    """Bounded memory."""
    values = Values(0.05, "higher")
    for _ in range(KEPT + 50):
        values.add(False, 1.0, True)
    for number in range(KEPT + 50):
        values.add(True, -1.0 - number, True)
    assert len(values._unused) == 0
    assert values._pairs == KEPT
