"""What is kept how long: the most patient policy decides, and a broken one stops nothing."""

from __future__ import annotations

from gateway.app.retention import Retention, longest_wait_seconds
from gateway.clock import ManualClock
from gateway.documents.policy import Labels, Policy
from gateway.documents.store import ABSENT, policy_name
from gateway.names import ModelName
from gateway.stores.memory import connect_memory

DEFAULT = Policy(model="default").labels.wait


async def test_the_most_patient_policy_decides_how_long_predictions_wait() -> None:
    config = connect_memory(ManualClock()).config
    for name, wait in (("a", 10.0), ("b", 2 * DEFAULT)):
        policy = Policy(model=name, labels=Labels(wait=wait))
        await config.put(policy_name(ModelName(name)), policy.encode(), ABSENT)
    assert await longest_wait_seconds(config) == 2 * DEFAULT


async def test_a_policy_that_is_garbage_stops_no_retention() -> None:
    """It would fill the disk."""
    stores = connect_memory(ManualClock())
    await stores.config.put(policy_name(ModelName("a")), b"\x00garbage", ABSENT)
    assert await longest_wait_seconds(stores.config) == DEFAULT
    await Retention(stores, ManualClock(), keep_seconds=60.0).once()
