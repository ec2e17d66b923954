"""A heuristic is a version like any other: what it says in Python is what its ONNX file says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.documents.job import JobState
from gateway.execution.session import open_session, run_session
from gateway.registry.package import read_package
from gateway.retraining.job.convert import convert
from gateway.retraining.job.run import first_job
from gateway.retraining.recipe import Feature, Recipe
from gateway.retraining.rule import OPERATORS, Rule, RuleClassifier, RuleRegressor

NAMES = ("a", "b")


def recipe(classes: Any) -> Recipe:
    return Recipe(
        model="m",
        features=[Feature(name=name, may_be_missing=True) for name in NAMES],
        label="y",
        classes=classes,
        candidates={"rule": lambda: None},
        metric="accuracy" if classes else "mae",
    )


numbers = st.sampled_from([0.0, 0.1, 0.5, 1.0, -2.5, 1e30])
conditions = st.tuples(st.sampled_from(NAMES), st.sampled_from(sorted(OPERATORS)), numbers)


@settings(max_examples=8, deadline=None)
@given(
    st.sampled_from([("x", "y", "z"), (0, 1, 2), ()]),
    st.lists(st.tuples(st.integers(0, 2), st.lists(conditions, min_size=1, max_size=3)), min_size=1, max_size=4),
    st.lists(st.tuples(*[st.one_of(numbers, st.just(float("nan")))] * 2), min_size=1, max_size=20),
)
def test_the_file_says_what_the_rules_say(classes: Any, drafts: Any, rows: Any) -> None:
    """For every operator, at the limits themselves, and where values are missing."""
    answers = classes or (0.5, 1.5, 2.5)
    rules = [Rule(answers[then], when) for then, when in drafts]
    kind = RuleClassifier if classes else RuleRegressor
    estimator = kind(NAMES, rules, answers[0]).fit(None, None)
    table = np.array(rows, dtype=np.float32)
    outputs = ["label", "probabilities"] if classes else ["value"]
    session = open_session(convert(estimator, recipe(classes)))
    said = run_session(session, outputs, {"features": table})
    assert said[0].ravel().tolist() == estimator.predict(table).tolist()
    if isinstance(estimator, RuleClassifier):
        assert np.array_equal(said[1], estimator.predict_proba(table))


def test_the_first_rule_that_holds_answers() -> None:
    rules = [Rule(1, [("a", ">", 5), ("b", "missing", 0)]), Rule(2, [("a", ">", 5)])]
    estimator = RuleClassifier(NAMES, rules, 0).fit(None, None)
    table = np.array([[6, np.nan], [6, 1], [5, np.nan], [np.nan, 1]], np.float32)
    assert estimator.predict(table).tolist() == [1, 2, 0, 0]
    assert estimator.classes_.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        ([], "at least one"),
        ([Rule(1, [])], "rule 1 has no condition"),
        ([Rule(1, [("c", ">", 1)])], "rule 1: 'c' is no feature; features are a, b"),
        ([Rule(1, [("a", ">", 1), ("a", "~", 1)])], "rule 1: '~' is not one of"),
    ],
)
def test_wrong_rules_are_told(rules: list[Rule], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        RuleClassifier(NAMES, rules, 0).fit(None, None)


def test_a_rule_is_trained_into_a_first_version(tmp_path: Path) -> None:
    """It meets the same gate, and its rules are in its lineage."""
    file = tmp_path / "rule.py"
    file.write_text(
        "from gateway.retraining.recipe import Feature, Recipe\n"
        "from gateway.retraining.rule import Rule, RuleClassifier\n"
        "def rule():\n"
        "    return RuleClassifier(('a', 'b'), [Rule(1, [('a', '>', 0.5)])], 0)\n"
        "recipe = Recipe(model='m', features=[Feature(name='a'), Feature(name='b')], label='y', classes=[0, 1],\n"
        "                candidates={'rule': rule}, holdout_rows=100, validation_rows=0, least_rows=50)\n"
    )
    rows = "".join(f"{n * 37 % 101 / 101},{n % 3},{int(n * 37 % 101 / 101 > 0.5)}\n" for n in range(200))
    (tmp_path / "rows.csv").write_text(f"a,b,y\n{rows}")
    result = first_job(file, tmp_path / "rows.csv", None, tmp_path / "out")
    assert result.state is JobState.PUBLISHED, result.detail
    manifest = read_package(tmp_path / "out" / "package")
    assert manifest.gate.metrics["accuracy"] == 1.0
    assert "('a', '>', 0.5)" in manifest.lineage.parameters["estimator"]
