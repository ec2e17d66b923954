"""The request path: what is answered, what is written down, and what a failing version does to both."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.clock import ManualClock
from gateway.documents.route import Canary, Route, Shadow
from gateway.errors import ExecutionError, InvalidInput, ModelNotFound, Unavailable, VersionNotLoaded
from gateway.journal.record import Feedback
from gateway.names import Outcome, Reason, Role
from gateway.serving.predict import PredictRequest
from tests.serving.serving_kit import Kit


async def test_an_answer_is_written_down_before_it_is_given(kit: Kit) -> None:
    """The record says everything: inputs, outputs, version, role, reason, revision, split."""
    await kit.publish(2)
    revision = await kit.route(Route(champion=1, canaries=(Canary(version=2, weight=100),), salt="s"))
    answer = await kit.ask(key="k", id="mine", trace="00-aa-bb-01")
    assert (answer.version, answer.role, answer.reason, answer.journal) == (2, Role.CANARY, Reason.STICKY, "process")
    assert answer.listed == {"label": [2], "score": [[None]]}
    [record] = await kit.predictions()
    assert (record.id, record.version, record.revision) == ("mine", 2, revision)
    assert record.inputs == [[1.0, 2.0]]
    assert record.outputs == answer.listed
    assert record.split == ((2, 10_000),)
    assert record.keyed
    assert record.trace == "00-aa-bb-01"
    assert "non_finite" in record.flags


async def test_the_only_model_may_be_left_unnamed(kit: Kit) -> None:
    """One model served: nobody has to name it. Unknown ones are named in the error."""
    with pytest.raises(ModelNotFound, match="none yet"):
        await kit.serving.predict(PredictRequest(model=None, inputs={}))
    await kit.publish()
    await kit.route(Route(champion=1))
    assert (await kit.serving.predict(PredictRequest(model=None, inputs={"a": 1, "b": 2}))).version == 1
    with pytest.raises(ModelNotFound, match="'other'"):
        await kit.serving.predict(PredictRequest(model="other", inputs={}))


async def test_wrong_input_is_refused_and_nothing_is_written(kit: Kit) -> None:
    """A caller's fault is no prediction."""
    await kit.publish()
    await kit.route(Route(champion=1))
    with pytest.raises(InvalidInput) as caught:
        await kit.ask(inputs={"a": "text"})
    assert {fault.pointer for fault in caught.value.faults} == {"/inputs/a", "/inputs/b"}
    assert await kit.records() == []


async def test_a_failing_version_is_written_down_and_the_fallback_answers(kit: Kit) -> None:
    """Both runs are in the journal under one id; the caller gets an answer."""
    await kit.publish(2)
    await kit.policy(fallback=[{"version": "champion"}])
    await kit.route(Route(champion=1, canaries=(Canary(version=2, weight=100),), salt="s"))
    kit.loaded[2].fails = True
    answer = await kit.ask()
    assert (answer.version, answer.reason) == (1, Reason.FALLBACK_VERSION)
    first, second = await kit.predictions()
    assert (first.version, first.outcome, first.id) == (2, Outcome.ERROR, answer.id)
    assert (second.version, second.outcome, second.id) == (1, Outcome.OK, answer.id)


async def test_a_fixed_value_answers_when_every_version_failed(kit: Kit) -> None:
    """The last link of the chain names no version."""
    await kit.publish()
    await kit.policy(fallback=[{"version": "previous"}, {"value": {"label": [0]}}])
    await kit.route(Route(champion=1))
    kit.loaded[1].fails = True
    answer = await kit.ask()
    assert (answer.version, answer.reason) == (None, Reason.FALLBACK_VALUE)
    assert answer.outputs["label"].tolist() == [0]


async def test_without_a_fallback_the_failure_is_the_answer_and_is_journaled(kit: Kit) -> None:
    """Analysis must see failures, also those that callers saw."""
    await kit.publish()
    await kit.route(Route(champion=1))
    kit.loaded[1].fails = True
    with pytest.raises(ExecutionError):
        await kit.ask()
    assert [record.outcome for record in await kit.predictions()] == [Outcome.ERROR]


async def test_shadows_run_after_the_reply_under_the_same_id(kit: Kit) -> None:
    """One id joins both answers; the inputs are written once."""
    await kit.publish(2)
    await kit.route(Route(champion=1, shadows=(Shadow(version=2),), salt="s"))
    answer = await kit.ask()
    assert kit.loaded[2].runs == 0
    await kit.shadows_done()
    live, shadow = await kit.predictions()
    assert (live.role, shadow.role) == (Role.CHAMPION, Role.SHADOW)
    assert live.id == shadow.id == answer.id
    assert shadow.inputs is None
    assert shadow.outputs["label"] == [2]


async def test_a_failing_shadow_fails_nobody(kit: Kit) -> None:
    """Its failure is in its own record."""
    await kit.publish(2)
    await kit.route(Route(champion=1, shadows=(Shadow(version=2),)))
    kit.loaded[2].fails = True
    assert (await kit.ask()).version == 1
    await kit.shadows_done()
    assert [record.outcome for record in await kit.predictions()] == [Outcome.OK, Outcome.ERROR]


async def test_a_shadow_of_another_contract_does_not_end_the_others(kit: Kit) -> None:
    """It can not read the record: that copy is dropped, and the next shadow runs."""
    await kit.publish()
    await kit.publish(features="ac")
    await kit.publish()
    await kit.route(Route(champion=1, shadows=(Shadow(version=2), Shadow(version=3))))
    assert (await kit.ask()).version == 1
    await kit.shadows_done()
    assert [(record.version, record.role) for record in await kit.predictions()] == [
        (1, Role.CHAMPION), (3, Role.SHADOW),
    ]  # fmt: skip


async def test_shadow_copies_beyond_the_bound_are_dropped(tmp_path: Path, clock: ManualClock) -> None:
    """The queue of three is full: later copies are dropped, the answers come all the same."""
    kit = Kit(tmp_path, clock)
    await kit.publish(2)
    await kit.route(Route(champion=1, shadows=(Shadow(version=2),)))
    for _ in range(5):
        await kit.ask()
    running = asyncio.create_task(kit.shadows.run())
    await kit.shadows_done()
    roles = [record.role for record in await kit.predictions()]
    assert (roles.count(Role.CHAMPION), roles.count(Role.SHADOW)) == (5, 3)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_pinned_version_must_be_loaded(kit: Kit) -> None:
    """The error names what is."""
    await kit.publish(2)
    await kit.route(Route(champion=1))
    with pytest.raises(VersionNotLoaded, match="loaded are 1"):
        await kit.ask(pinned=2)
    assert (await kit.ask(pinned=1)).reason is Reason.PINNED


async def test_a_reused_id_is_flagged(kit: Kit) -> None:
    """It is answered; joining leaves it out."""
    await kit.publish()
    await kit.route(Route(champion=1))
    await kit.ask(id="same")
    assert "duplicate_id" in (await kit.ask(id="same")).flags


async def test_redacted_fields_never_reach_the_journal(kit: Kit) -> None:
    """Redaction happens before the record is made; the model still sees the value."""
    await kit.publish()
    await kit.policy(journal={"redact": ["b"]})
    await kit.route(Route(champion=1))
    await kit.ask()
    assert (await kit.predictions())[0].inputs == [[1.0, None]]


async def test_inputs_that_are_too_large_become_a_digest(kit: Kit) -> None:
    """Marked as not replayable instead of filling the disk."""
    await kit.publish()
    await kit.policy(journal={"max_record_bytes": 1024})
    await kit.route(Route(champion=1))
    await kit.ask(inputs=[[0.5, float(n)] for n in range(500)])
    [record] = await kit.predictions()
    assert (record.inputs, len(record.inputs_digest), record.rows) == (None, 64, 500)


async def test_a_lease_that_ran_out_leaves_only_the_champion(kit: Kit, clock: ManualClock) -> None:
    """Whoever waits for a roll-back may count on it after a second."""
    await kit.publish(2)
    await kit.route(Route(champion=1, canaries=(Canary(version=2, weight=100),)))
    kit.serving.lease_until = clock.monotonic() + 1
    assert (await kit.ask()).version == 2
    clock.advance(1.5)
    assert (await kit.ask()).version == 1


@pytest.mark.parametrize(("on_failure", "answers"), [("serve", True), ("refuse", False)])
async def test_a_journal_that_fails_is_handled_as_the_policy_says(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, on_failure: str, answers: bool
) -> None:
    """serve: answered and marked as dropped; refuse: 503."""
    await kit.publish()
    await kit.policy(journal={"on_failure": on_failure})
    await kit.route(Route(champion=1))
    monkeypatch.setattr(kit.tee, "flush", lambda: False)
    if answers:
        assert (await kit.ask()).journal == "dropped"
    else:
        with pytest.raises(Unavailable):
            await kit.ask()


async def test_feedback_is_in_the_journal_when_it_is_accepted(kit: Kit) -> None:
    """What was accepted is not lost."""
    assert kit.serving.feedback([Feedback(id="x", row=0, label=1)])
    assert await kit.records() == [Feedback(id="x", row=0, label=1)]


async def test_strict_durability_waits_for_the_disk_and_says_so(kit: Kit) -> None:
    """The header tells the caller what was kept."""
    await kit.publish()
    await kit.policy(journal={"durability": "strict"})
    await kit.route(Route(champion=1))
    assert (await kit.ask()).journal == "strict"
