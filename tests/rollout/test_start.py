"""What a rollout is when it begins."""

from __future__ import annotations

import pytest

from gateway.documents.policy import Policy
from gateway.documents.rollout import Freeze
from gateway.documents.route import Route
from gateway.documents.store import ABSENT
from gateway.names import ModelName
from gateway.registry.manifest import Lineage, Manifest
from gateway.rollout.present import Present
from gateway.rollout.start import new_rollout


@pytest.mark.parametrize(
    ("trigger", "by_hand", "acts"),
    [
        ("data_drift", False, ["shadow", "approve"]),
        ("data_drift", True, ["shadow", "canary", "canary", "canary", "auto"]),
        ("schedule", False, ["shadow", "canary", "canary", "canary", "auto"]),
    ],
)
def test_version_that_was_trained_because_inputs_moved_is_only_shadowed(
    trigger: str, by_hand: bool, acts: list[str]
) -> None:
    """Until a person approves it; one who starts the rollout has decided already."""
    manifest = Manifest(model="m", number=2, lineage=Lineage(source="job", trigger=trigger))
    present = Present(
        model=ModelName("m"),
        policy=Policy(model="m"),
        route=Route(champion=1),
        revision=ABSENT,
        rollout=None,
        rollout_revision=ABSENT,
        freeze=Freeze(frozen=False),
        manifests={1: Manifest(model="m", number=1), 2: manifest},
    )
    rollout = new_rollout(present, 2, "steps", "", "rollout", 5.0, by_hand=by_hand)
    found = ["shadow" if step.shadow else "canary" if step.canary else step.promote for step in rollout.steps]
    assert found == acts
