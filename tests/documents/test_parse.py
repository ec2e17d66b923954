"""Policy texts: the right ones become policies, the wrong ones are named by file, line, column and key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.documents.parse import parse_policy, validate, validate_policy
from gateway.documents.policy import Policy
from gateway.documents.route import Route
from gateway.errors import InvalidConfig

FULL = """\
model: electricity
first_version: serve            # or: hold
sticky: key
rules:
  - {when: {header: x-tier, equals: beta}, version: challenger}
fallback:
  - {version: previous}
  - {value: {label: 0}}
deadline_ms: 250
inputs: {missing: reject, out_of_range: flag, unseen_category: flag}
cache: {seconds: 0}
rollout:
  start: auto
  steps:
    - {shadow: 100, until: {pairs: 500}, at_most: 1h}
    - {canary: 5}
    - {promote: auto}
  guards: {errors: {ratio: 2, alpha: 0.01}, value: {alpha: 0.05, better: higher}}
  after_promotion: {requests: 1000}
  without_evidence: hold
monitoring:
  detectors: [panel, {river: ADWIN, on: errors, advisory: true}]
  slices: [period_of_day]
  alerts: [{webhook: "http://127.0.0.1:9000/hook"}]
labels: {wait: 7d}
retraining:
  recipe: models/electricity.py
  triggers: {data_drift: shadow_only, performance: {metric: accuracy, below: 0.7}, schedule: "0 3 * * *"}
  windows: [since_change, {rows: 1000}, {days: 365}, {sample: 2000}]
journal: {durability: process, keep: 30d, redact: [nswprice]}
"""


def test_the_design_page_s_policy_is_read() -> None:
    policy = parse_policy(FULL, "electricity.yaml")
    assert policy.rollout.steps[0].at_most == 3600.0
    assert policy.labels.wait == 7 * 86400.0
    assert policy.retraining.windows[0] == "since_change"
    assert policy.rules[0].version == "challenger"


@pytest.mark.parametrize("text", ["", "# only a comment\n", "{}"])
def test_a_file_that_says_nothing_has_the_defaults(text: str) -> None:
    assert parse_policy(text, "e.yaml", model="e") == Policy(model="e")


def test_off_is_a_word_and_not_a_boolean() -> None:
    """YAML 1.1 read `off` as false; people write it because the docs say so."""
    policy = parse_policy("retraining: {triggers: {data_drift: off}}", "e.yaml", model="e")
    assert policy.retraining.triggers.data_drift == "off"


@pytest.mark.parametrize(
    ("text", "place", "detail"),
    [
        ("model: e\nrolout: {}\n", "e.yaml:2:1: rolout", "did you mean 'rollout'"),
        ("model: e\nrolout: {}\n", "e.yaml:2:1: rolout", "allowed: cache, concurrency, deadline_ms"),
        ("model: e\nmodel: f\n", "e.yaml:2:1", 'duplicate key "model"'),
        ("model: e\nlabels: {wait: 1h, wait: 2h}\n", "e.yaml:2:20", 'duplicate key "wait"'),
        ("model: e\nfirst_version: maybe\n", "e.yaml:2:1: first_version", "must be 'serve' or 'hold'"),
        ("model: e\nlabels:\n  wait: 7 days\n", "e.yaml:3:3: labels.wait", "500ms, 30s, 10m, 1h or 7d"),
        (
            "model: e\nrollout:\n  steps:\n  - {canary: 5}\n  - {canry: 9}\n  - {promote: auto}\n",
            "e.yaml:5:6: rollout.steps.1.canry",
            "did you mean 'canary'",
        ),
        ("model: e\nrollout: {steps: [{canary: 5}]}\n", "e.yaml:2:1: rollout", "must be promote"),
        ("model: e\nfallback: [{}]\n", "e.yaml:2:12: fallback.0", "either a version or a value"),
        (
            "model: e\nmonitoring: {detectors: [panel, {rivr: ADWIN}]}\n",
            "e.yaml:2:34: monitoring.detectors.1.rivr",
            "did you mean 'river'",
        ),
        (
            'model: e\nretraining: {triggers: {schedule: "daily"}}\n',
            "e.yaml:2:25: retraining.triggers.schedule",
            "five cron fields",
        ),
        ("model: a b\n", "e.yaml:1:1: model", "not a model name"),
        ("deadline_ms: 5\n", "e.yaml:1:1: model", "is required"),
        ("model: e\nlabels: 5\n", "e.yaml:2:1: labels", "Labels"),
        ("model: [\n", "e.yaml:2:1", "not YAML"),
        ("\tmodel: e\n", "e.yaml:1:1", "not YAML"),
        ("- a\n- b\n", "e.yaml:1:1", "must be a mapping"),
        ("just text", "e.yaml:1:1", "must be a mapping"),
    ],
)
def test_a_wrong_text_is_named_by_place_and_says_what_is_allowed(text: str, place: str, detail: str) -> None:
    with pytest.raises(InvalidConfig) as caught:
        parse_policy(text, "e.yaml")
    faults = {fault.pointer: fault.detail for fault in caught.value.faults}
    assert place in faults
    assert detail in faults[place]
    assert str(caught.value).startswith("e.yaml")


def test_every_wrong_place_is_named_at_once() -> None:
    """One error at a time makes a person try five times."""
    with pytest.raises(InvalidConfig) as caught:
        parse_policy("model: e\ndeadline_ms: -1\nsticky: glue\nlabels: {wait: x}\n", "e.yaml")
    assert len(caught.value.faults) == 3


ALIASES = """
a: &a [1,1,1,1,1,1,1,1,1]
b: &b [*a,*a,*a,*a,*a,*a,*a,*a]
c: &c [*b,*b,*b,*b,*b,*b,*b,*b]
d: &d [*c,*c,*c,*c,*c,*c,*c,*c]
model: [*d,*d,*d,*d,*d,*d,*d]
"""


@pytest.mark.parametrize(
    "text",
    [
        ALIASES,
        "a: &a\n  b: *a\n",
        "model: " + "x" * 1_000_001,
        "model: !!python/object/apply:os.system [ls]\n",
        "[" * 5000,
    ],
    ids=["aliases", "endless", "long", "tag", "deep"],
)
def test_a_hostile_text_is_refused_quickly(text: str) -> None:
    """A policy can come from a form or a repository; it must not take the process down."""
    with pytest.raises(InvalidConfig):
        parse_policy(text, "e.yaml")


def test_many_open_brackets_are_refused_before_the_library_reads_them() -> None:
    """It takes seconds for thousands of them. What is quoted counts too: nobody means so many."""
    with pytest.raises(InvalidConfig, match=r"e\.yaml: more than 100 brackets are open"):
        parse_policy("model: e\nrules: " + "[" * 101 + "]" * 101, "e.yaml")
    with pytest.raises(InvalidConfig, match="rules"):
        parse_policy("model: e\nrules: " + "[" * 20 + "]" * 20, "e.yaml")


@given(st.text(max_size=60))
def test_no_text_raises_anything_else(text: str) -> None:
    try:
        parse_policy(text, "e.yaml")
    except InvalidConfig as error:
        assert error.faults  # noqa: PT017 - the point is that nothing else is raised


def test_json_is_named_by_pointer() -> None:
    with pytest.raises(InvalidConfig) as caught:
        validate_policy({"model": "e", "rollout": {"steps": [{"canry": 5}, {"promote": "auto"}]}})
    assert "/rollout/steps/0/canry" in [fault.pointer for fault in caught.value.faults]
    with pytest.raises(InvalidConfig) as caught:
        validate(Route, {"champion": 1, "a/b~c": 2}, "the route")
    assert caught.value.faults[0].pointer == "/a~1b~0c"


def test_what_is_stored_is_read_again() -> None:
    policy = parse_policy(FULL, "electricity.yaml")
    assert validate_policy(policy.model_dump(mode="json")) == policy
