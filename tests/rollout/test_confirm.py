"""What the answers of hooks mean, before anything is posted."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from gateway.documents.hook import Hook, shown
from gateway.documents.parse import validate_policy
from gateway.documents.rollout import Phase, Rollout, Step
from gateway.errors import InvalidConfig
from gateway.rollout.confirm import MAX_ANSWER_BYTES, Answer, confirmed, event, listeners, moment_of, read_answer
from gateway.rollout.transition import TRANSITIONS, Act, Action, next_rollout

URL = "http://h/hook"
YES = Answer(URL, "yes", "")
NO = Answer(URL, "no", "not on a Friday")
WAIT = Answer(URL, "wait", "a build is running")
ROLLOUT = Rollout(
    model="m",
    version=2,
    champion=1,
    plan="steps",
    steps=(Step(shadow=100.0, at_most_seconds=60.0), Step(canary=5.0, at_most_seconds=60.0), Step(promote="auto")),
    phase=Phase.SHADOW,
    reason="",
    step=0,
)
CANARY = Action(Act.CANARY, "enough pairs", 1)
PROMOTE = Action(Act.PROMOTE, "enough answers", 2)
ON_CANARY = replace(ROLLOUT, phase=Phase.CANARY, step=1)


@pytest.mark.parametrize(
    ("status", "body", "word", "said"),
    [
        (200, b'{"answer": "yes"}', "yes", ""),
        (200, b'{"answer": "no", "reason": "not on a Friday"}', "no", "Friday"),
        (200, b'{"answer": "wait", "reason": "later", "more": 1}', "wait", "later"),
        (200, b'{"answer": "YES"}', "wait", "something else"),
        (200, b'{"answer": true}', "wait", "something else"),
        (200, b"yes", "wait", "something else"),
        (200, b"\xff\xfe", "wait", "something else"),
        (200, b"[" * 50_000, "wait", "something else"),
        (200, b'{"answer": "yes", "reason": "' + b"x" * MAX_ANSWER_BYTES, "wait", "more than 65536 bytes"),
        (204, b"", "wait", "status 204"),
        (302, b'{"answer": "yes"}', "wait", "status 302"),
        (500, b'{"answer": "yes"}', "wait", "status 500"),
    ],
)
def test_only_a_clear_yes_is_yes(status: int, body: bytes, word: str, said: str) -> None:
    """Everything else waits, with the reason in words."""
    answer = read_answer(URL, status, body)
    assert answer.word == word
    assert said in answer.reason


@given(st.integers(100, 599), st.binary(max_size=200))
def test_garbage_is_never_an_answer(status: int, body: bytes) -> None:
    """No bytes that are not one of three words move a rollout."""
    assert read_answer(URL, status, body).word == "wait"


@pytest.mark.parametrize(
    ("rollout", "action", "answers", "now", "act", "said"),
    [
        (ROLLOUT, CANARY, [YES, YES], 0, Act.CANARY, "enough pairs"),
        (ROLLOUT, CANARY, [YES, WAIT], 0, Act.NOTHING, "hook: waits for http://h/hook: a build is running"),
        (ROLLOUT, CANARY, [WAIT, NO], 0, Act.HOLD, "said no: not on a Friday; go on with: gateway rollout resume m"),
        (replace(ROLLOUT, phase=Phase.HELD), CANARY, [NO], 99, Act.HOLD, "said no: not on a Friday; go on with"),
        (ON_CANARY, PROMOTE, [YES, NO], 0, Act.ROLL_BACK, "said no: not on a Friday"),
        (ON_CANARY, PROMOTE, [WAIT], 61, Act.HOLD, "not confirmed in time, hook: waits for http://h/hook"),
        (replace(ON_CANARY, without_evidence="roll_back"), PROMOTE, [WAIT], 61, Act.ROLL_BACK, "not confirmed in time"),
        (replace(ON_CANARY, phase=Phase.HELD), PROMOTE, [WAIT], 61, Act.NOTHING, "waits for"),
        (replace(ROLLOUT, phase=Phase.WAITING, step=-1), Action(Act.SHADOW, "", 0), [WAIT], 61, Act.HOLD, "in time"),
    ],
)
def test_what_answers_make_of_an_action(
    rollout: Rollout, action: Action, answers: list[Answer], now: float, act: Act, said: str
) -> None:
    """One row for each rule."""
    after = confirmed(rollout, action, answers, now)
    assert after.act is act
    assert said in after.reason
    assert after.refused is (act is Act.HOLD and any(answer.word == "no" for answer in answers))
    if act is not Act.NOTHING:
        assert [one["word"] for one in after.verdict.evidence["hooks"]] == [answer.word for answer in answers]


@given(
    st.sampled_from([Phase.WAITING, Phase.SHADOW, Phase.CANARY, Phase.HELD]),
    st.sampled_from([CANARY, PROMOTE, Action(Act.SHADOW, "", 0), Action(Act.APPROVE, "", 2)]),
    st.lists(st.sampled_from([YES, NO, WAIT]), min_size=1),
    st.floats(-1e6, 1e6),
    st.sampled_from(["hold", "roll_back"]),
)
def test_nothing_goes_on_without_every_yes(
    phase: Phase, action: Action, answers: list[Answer], now: float, without_evidence: str
) -> None:
    """And whatever comes of it is in the table."""
    step = -1 if phase is Phase.WAITING else 1
    rollout = replace(ROLLOUT, phase=phase, step=step, without_evidence=without_evidence)
    after = confirmed(rollout, action, answers, now)
    assert (after.act is action.act) is all(answer.word == "yes" for answer in answers)
    if after.act is not Act.NOTHING:
        assert next_rollout(rollout, after, now, 7).phase is TRANSITIONS[phase][after.act]


def test_hooks_are_asked_before_a_person_is() -> None:
    """Nobody should say yes to what may not happen."""
    acts = {act: moment_of(Action(act)) for act in Act}
    assert {act for act, moment in acts.items() if moment == "before_promotion"} == {Act.PROMOTE, Act.APPROVE}
    assert {act for act, moment in acts.items() if moment == "before_step"} == {Act.SHADOW, Act.CANARY}


def test_listeners_are_chosen_by_moment_and_by_whether_their_answer_counts() -> None:
    """A hook that is asked is not told as well."""
    asked = Hook(url=URL, on=("before_step", "before_promotion"), confirm=True)
    told = Hook(url=URL, on=("before_step", "event"))
    assert listeners((asked, told), "before_step", confirm=True) == [asked]
    assert listeners((asked, told), "before_step", confirm=False) == [told]
    assert listeners((asked, told), "before_promotion", confirm=False) == []


def test_secrets_in_an_address_are_not_shown() -> None:
    """Reasons end up in the audit trail and on the status page."""
    assert shown("https://user:secret@h:8443/path?token=secret#x") == "https://h:8443/path"


def test_an_event_is_a_cloud_event() -> None:
    """The attributes that version 1.0 requires; the same decision has the same id."""
    one = msgspec.json.decode(event(ROLLOUT, "before_step", "1/x", 1_700_000_000.0, {"act": "canary"}))
    again = msgspec.json.decode(event(ROLLOUT, "before_step", "1/x", 1_700_000_009.0, {"act": "canary"}))
    assert (one["specversion"], one["type"], one["subject"]) == ("1.0", "gateway.rollout.before_step", "m@2")
    assert one["time"] == "2023-11-14T22:13:20+00:00"
    assert one["id"] == again["id"] == "rollout/m/1/1/x"
    assert one["data"]["act"] == "canary"


@pytest.mark.parametrize(
    ("hook", "said"),
    [
        ({"url": "ftp://h/hook", "on": ["event"]}, "http://127.0.0.1:9000/hook"),
        ({"url": "http://", "on": ["event"]}, "must be an address"),
        ({"url": "http://h:99999/", "on": ["event"]}, "port"),
        ({"url": URL, "on": []}, "at least 1 item"),
        ({"url": URL, "on": ["after_lunch"]}, "'before_step'"),
        ({"url": URL, "on": ["before_step", "event"], "confirm": True}, "list other moments in a second hook"),
        ({"url": URL, "on": ["event"], "timeout": 0}, "at most 60s"),
        ({"url": URL, "on": ["event"], "timeout": "2m"}, "at most 60s"),
    ],
)
def test_a_hook_that_can_not_work_is_refused_with_the_policy(hook: dict[str, object], said: str) -> None:
    """Where it is written, not when a version waits for it."""
    with pytest.raises(InvalidConfig) as caught:
        validate_policy({"model": "m", "rollout": {"hooks": [hook]}})
    assert said.lower() in str(caught.value).lower()
    assert caught.value.faults[0].pointer.startswith("/rollout/hooks")
