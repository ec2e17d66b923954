"""The policy: what a rollout's keys mean together, and how they are stored with the rollout."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from pydantic import ValidationError

from gateway.documents.policy import Policy
from gateway.documents.rollout import Guards, Step

MARGIN = {"quality": {"margin": 0.02}}


def _policy(guards: dict[str, Any] | None = None, *steps: dict[str, Any]) -> Policy:
    rollout: dict[str, Any] = {"guards": guards or {}}
    if steps:
        rollout["steps"] = [*steps, {"promote": "auto"}]
    return Policy.model_validate({"model": "m", "rollout": rollout})


def test_guards_are_stored_with_the_rollout_as_the_policy_has_them() -> None:
    """A later policy edit moves no rollout."""
    policy = _policy({"errors": {"ratio": 3, "alpha": 0.02}, "quality": {"alpha": 0.1, "margin": 0.03}})
    guards = policy.rollout.guards.guards
    assert (guards.errors_ratio, guards.errors_alpha, guards.quality_alpha, guards.quality_margin) == (
        3,
        0.02,
        0.1,
        0.03,
    )
    assert Policy(model="m").rollout.guards.guards == Guards()


def test_a_step_asks_for_quality() -> None:
    """`until.quality` of the policy becomes the step's `until_quality`."""
    policy = _policy(MARGIN, {"shadow": 100, "until": {"pairs": 50, "quality": "not_worse"}})
    assert policy.rollout.steps[0].step == Step(shadow=100, until_pairs=50, until_quality="not_worse")


@pytest.mark.parametrize(
    ("guards", "step", "said"),
    [
        ({}, {"shadow": 100, "until": {"quality": "not_worse"}}, "guards.quality.margin"),
        (MARGIN, {"canary": 5, "until": {"quality": "better"}}, "shadow step before it"),
        (MARGIN, {"shadow": 5, "until": {"quality": "best"}}, "not_worse"),
    ],
)
def test_a_quality_that_could_never_be_shown_is_refused(guards: Any, step: Any, said: str) -> None:
    """A plan that can never end is no plan."""
    with pytest.raises(ValidationError, match=said):
        _policy(guards, step)


def test_rollouts_stored_before_a_guard_existed_stay_readable() -> None:
    """New keys have defaults."""
    assert msgspec.json.decode(b'{"quality_alpha": 0.1}', type=Guards) == Guards(quality_alpha=0.1)
    assert msgspec.json.decode(b'{"shadow": 100.0}', type=Step) == Step(shadow=100.0)
