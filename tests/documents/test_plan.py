"""Plans that can never end are refused where they are written."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.documents.parse import parse_policy, validate_policy
from gateway.documents.plan import PLANS, plan_faults
from gateway.documents.policy import Policy, RolloutPolicy
from gateway.errors import InvalidConfig

PROMOTE = {"promote": "auto"}


@pytest.mark.parametrize(
    ("steps", "key", "said"),
    [
        ([{"canary": 5, "hold": "2h", "at_most": "1h"}, PROMOTE], "0.hold", "7200 s against 3600 s"),
        ([{"canary": 5, "hold": float("inf")}, PROMOTE], "0.hold", "never ends"),
        ([{"canary": 5, "at_most": 0}, PROMOTE], "0.at_most", "over before the step began"),
        ([{"canary": 5, "until": {"pairs": 9}}, PROMOTE], "0.until", "write until: {requests: 9}"),
        ([{"shadow": 5, "until": {"requests": 9}}, PROMOTE], "0.until", "write until: {pairs: 9}"),
        ([{"canary": 50}, {"canary": 5}, PROMOTE], "1.canary", "5 % comes after 50 %"),
        ([{"canary": 50}, {"shadow": 5}, PROMOTE], "1.shadow", "put it before them"),
        ([{"canary": 100}, PROMOTE], "0.canary", "write promote, or a weight below 100"),
        ([{"promote": "auto", "hold": "1m"}], "0.hold", "put it on the step before"),
        ([{"promote": "approve", "until": {"requests": 5}}], "0.until", "put it on the step before"),
        ([{"promote": "auto", "at_most": "1m"}], "0.at_most", "waits for nothing"),
    ],
)
def test_a_plan_that_can_never_end_is_named_by_its_key(steps: list[Any], key: str, said: str) -> None:
    """Over the API, before a version hangs in it; and what to write instead."""
    with pytest.raises(InvalidConfig) as caught:
        validate_policy({"model": "m", "rollout": {"steps": steps}})
    faults = {fault.pointer: fault.detail for fault in caught.value.faults}
    assert said in faults["/rollout/steps/" + key.replace(".", "/")]


def test_a_file_names_line_and_column() -> None:
    """As for every other key."""
    steps = "    - {shadow: 9}\n    - {canary: 5, hold: 2h, at_most: 1h}\n    - {promote: auto}\n"
    text = "model: m\nrollout:\n  steps:\n" + steps
    with pytest.raises(InvalidConfig, match=r"m.yaml:5:19: rollout.steps.1.hold: lasts longer than at_most"):
        parse_policy(text, "m.yaml")


def test_blue_green_moves_nobody_in_parts() -> None:
    """All callers at once is what it is for."""
    with pytest.raises(InvalidConfig, match="switches at once"):
        validate_policy({"model": "m", "rollout": {"blue_green": [{"canary": 5}, PROMOTE]}})


@pytest.mark.parametrize("name", PLANS)
def test_the_plans_that_come_by_default_can_end(name: str) -> None:
    """Nobody should have to repair a default."""
    assert not list(plan_faults(name, getattr(RolloutPolicy(), name)))


def test_a_step_may_hold_exactly_as_long_as_its_limit() -> None:
    """The evidence is looked at before the limit."""
    steps = [{"canary": 5, "hold": "1h", "at_most": "1h"}, {"promote": "approve", "at_most": "2d"}]
    policy = validate_policy({"model": "m", "rollout": {"steps": steps}})
    assert policy.rollout.steps[0].step.hold_seconds == policy.rollout.steps[0].step.at_most_seconds == 3600.0


def test_a_stored_policy_of_before_stays_readable() -> None:
    """A plan that was accepted once is refused when it is started, not when it is read."""
    stored = Policy.model_validate(
        {"model": "m", "rollout": {"steps": [{"canary": 5, "until": {"pairs": 9}}, PROMOTE]}}
    )
    assert stored.rollout.steps[0].until is not None
