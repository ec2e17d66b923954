"""The online model beside the champion: learns in journal order, is compared fairly, stops nothing when it fails."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from gateway.documents.policy import MonitoringPolicy, OnlineModel, Policy
from gateway.errors import InvalidConfig
from gateway.journal.record import Entry, Feedback, TrafficRecord
from gateway.monitor.figures.online import MOST_PENDING, Online, OnlineState, shown
from gateway.monitor.figures.online_model import Learner
from gateway.monitor.fold import Context
from gateway.monitor.label import Label
from gateway.monitor.version import Version
from gateway.names import Role
from gateway.registry.manifest import Feature, Manifest, PredictionSpec
from tests.monitor.stream import FEATURES, MODEL, SPEC, answer_of, answered, folded, placed, sea, traffic, versions

metrics, tree = pytest.importorskip("river.metrics"), pytest.importorskip("river.tree")
TREE = OnlineModel(river="tree.HoeffdingTreeClassifier", parameters={"grace_period": 50})
VALUE = PredictionSpec(output="variable", kind="value")
OURS = versions()[MODEL]
THREE = PredictionSpec(output="label", kind="class", classes=("a", "b", "c"))
MIXED = (Feature(name="x"), Feature(name="colour", kind="categorical"))


def taught(id_: str, inputs: Any, label: Any = 1, said: Any = 1) -> Label:
    """A labelled row of the champion, version 1."""
    return Label(1, Role.CHAMPION, "weight", 0, said, None, label, 0, "g/1/1", inputs=inputs, contract=1, id=id_)


def policy(wanted: OnlineModel | None = TREE) -> MonitoringPolicy:
    return MonitoringPolicy(detectors=(), online_model=wanted)


def context(wanted: OnlineModel | None = TREE) -> Context:
    return Context({MODEL: Policy(model=MODEL, monitoring=policy(wanted))}, versions())


def seen(entries: list[Entry[TrafficRecord]], sizes: list[int], wanted: OnlineModel = TREE) -> dict[str, Any]:
    state = folded(entries, sizes, context(wanted))[0].of(MODEL).online
    return {key: value for key, value in shown(state, wanted).items() if key != "state_bytes"}


def test_its_prequential_accuracy_is_what_river_gives_on_the_same_rows() -> None:
    """The oracle: river alone, predict then learn, over the rows in the order in which their labels came."""
    rows, labels = sea(500, 250)
    model = tree.HoeffdingTreeClassifier(grace_period=50)
    metric, pairs = metrics.Accuracy(), 0
    for row, label in list(zip(rows, labels, strict=True))[: 500 - 48]:
        x = dict(zip("abc", row, strict=True))
        if (said := model.predict_one(x)) is not None:
            metric.update(bool(label), said)
            pairs += 1
        model.learn_one(x, bool(label))
    found = seen(placed(traffic(rows, labels)), [100] * 12)
    assert found["learned"] == 452
    assert found["when_labelled"]["rows"] == pairs
    assert found["when_labelled"]["online"] == pytest.approx(metric.get(), abs=1e-6)
    served = [answer_of(row)[0] == label for row, label in zip(rows, labels, strict=True)][452 - pairs : 452]
    assert found["when_labelled"]["champion"] == pytest.approx(sum(served) / pairs, abs=1e-6)


def test_what_it_said_when_the_row_was_answered_is_kept_apart() -> None:
    """Labels come 100 rows late and turn around half-way: only hindsight is right at once."""
    rng = np.random.default_rng(3)
    rows = rng.uniform(0, 10, size=(500, 3)).tolist()
    labels = [int((row[0] > 5) != (place >= 250)) for place, row in enumerate(rows)]
    records: list[TrafficRecord] = []
    for place, row in enumerate(rows):
        records.append(answered(place, row))
        if place >= 100:
            records.append(Feedback(f"r{place - 100}", 0, labels[place - 100]))
    wanted = OnlineModel(river="tree.HoeffdingAdaptiveTreeClassifier", parameters={"grace_period": 25})
    found = seen(placed(records), [200] * 5, wanted)
    assert found["when_answered"]["rows"] == 299  # the first 100 rows came before any label
    assert found["when_answered"]["one_in"] == 1
    assert found["when_answered"]["online"] < found["when_labelled"]["online"] - 0.05


@pytest.mark.parametrize("sizes", [[1] * 250, [7, 90, 3, 60]])
def test_however_it_is_cut_and_restored_its_figures_are_the_same(sizes: list[int]) -> None:
    """Each block starts from the checkpoint's bytes, as a restarted monitor does."""
    rows, labels = sea(150, 75)
    entries = placed(traffic(rows, labels))
    wanted = OnlineModel(river="tree.HoeffdingAdaptiveTreeClassifier", parameters={"grace_period": 20})
    assert seen(entries, sizes, wanted) == seen(entries, [], wanted)


def test_shadows_teach_nothing_and_canaries_are_no_champion() -> None:
    """A row is learned once, whoever else answered it; only the champion's answers stand beside."""
    rows, labels = sea(60, 60)
    records: list[TrafficRecord] = []
    for place, row in enumerate(rows):
        canary = place % 3 == 2
        role, number = (Role.CANARY, 2) if canary else (Role.CHAMPION, 1)
        records.append(answered(place, row, version=number, role=role))
        records.append(answered(place, row, version=2, role=Role.SHADOW))
        records.append(Feedback(f"r{place}", 0, labels[place]))
    found = seen(placed(records), [20] * 10)
    assert found["learned"] == 60
    assert found["when_labelled"]["rows"] == 39  # 40 of the champion, the first before anything was learned


def test_it_stays_through_a_promotion_and_starts_anew_with_another_policy() -> None:
    rows, labels = sea(80, 80)
    records = [*traffic(rows[:40]), *traffic(rows[40:], version=2, revision=5)]
    both: list[TrafficRecord] = []
    for place, row in enumerate(rows):
        both.append(answered(place, row, version=1 + (place >= 40), revision=1 + (place >= 40)))
        both.append(Feedback(f"r{place}", 0, labels[place]))
    assert len(records) == 80
    state = folded(placed(both), [50] * 4, context())[0].of(MODEL).online
    assert state.learned == 80
    other = Online(state, OnlineModel(river="linear_model.LogisticRegression"), OURS)
    other.label(taught("q", rows[0]), serves=True)
    assert other.state().learned == 1
    assert Online(state, None, OURS).state() == OnlineState()


@pytest.mark.parametrize(
    ("wanted", "spec", "says"),
    [
        ({"river": "tree.NoSuchTree"}, SPEC, "no online classifier 'tree.NoSuchTree'; it has forest.AMFClassifier"),
        ({"river": "os.system"}, SPEC, "no online classifier 'os.system'"),
        ({"river": "tree.HoeffdingTreeRegressor"}, SPEC, "no online classifier"),
        ({"river": "tree.HoeffdingTreeClassifier"}, VALUE, "no online regressor"),
        ({"river": "tree.ISOUPTreeRegressor"}, VALUE, "no online regressor"),
        ({"river": "tree.HoeffdingTreeClassifier", "parameters": {"colour": 1}}, SPEC, "colour"),
        ({"river": "linear_model.LogisticRegression"}, THREE, "tells two classes apart, the version has 3"),
    ],
)
def test_what_river_does_not_have_is_refused_by_name(wanted: dict[str, Any], spec: PredictionSpec, says: str) -> None:
    with pytest.raises(InvalidConfig, match=says.replace("(", r"\(")):
        Learner(OnlineModel(**wanted), spec)


def test_rows_without_features_are_counted_and_not_learned() -> None:
    """Tensors, inputs too large for the journal, a row of nothing but missing values."""
    online = Online(OnlineState(), TREE, OURS)
    for inputs in (None, {"x": [1.0]}, [1.0], [None, None, None]):
        online.label(taught("q", inputs), serves=True)
    found = shown(online.state(), TREE)
    assert (found["learned"], found["unreadable"]) == (0, 4)


def test_a_refused_model_is_told_and_stops_nothing() -> None:
    """The monitor goes on; a corrected policy begins at once."""
    rows, labels = sea(80, 80)
    entries = placed(traffic(rows, labels))
    wrong = OnlineModel(river="tree.HoeffdingTreeClassifer")
    state, _, _ = folded(entries, [40] * 5, context(wrong))
    remembered = state.of(MODEL)
    assert "no online classifier 'tree.HoeffdingTreeClassifer'" in remembered.online.refused
    assert remembered.tallies["1/champion"].labelled == 32
    again = Online(remembered.online, TREE, OURS)
    again.label(taught("q", rows[0]), serves=True)
    assert (again.state().refused, again.state().learned) == ("", 1)


def test_a_state_that_grows_too_large_stops_it_openly() -> None:
    """A forest in a checkpoint that is written every block must not grow for ever."""
    wanted = OnlineModel(river="tree.HoeffdingTreeClassifier", parameters={"grace_period": 10}, most_kilobytes=1)
    rows, labels = sea(500, 250)
    state = folded(placed(traffic(rows, labels)), [100] * 12, context(wanted))[0].of(MODEL).online
    assert "stopped after 200 labels: its state grew to" in state.stopped
    assert (state.river, state.pending, state.learned) == (b"", {}, 200)
    assert shown(state, wanted)["when_labelled"]["rows"] > 150


def test_a_model_that_fails_on_a_row_is_stopped_with_river_s_words() -> None:
    class Failing:
        def predict_one(self, row: dict[str, Any]) -> bool:
            raise KeyError("no leaf")

    online = Online(OnlineState(), TREE, OURS)
    row = taught("q", [1.0, 2.0, 3.0])
    online.label(row, serves=True)
    assert online._learner is not None
    online._learner._river = Failing()
    online.label(row, serves=True)
    assert "KeyError: 'no leaf'" in online.state().stopped


@pytest.mark.parametrize("labelled_every", [1, 10])
def test_rows_that_wait_are_bounded_and_the_share_that_is_compared_is_told(labelled_every: int) -> None:
    """Labels a day late, or for one row in ten: what is kept is bounded, and the comparison goes on."""
    wanted, delay = OnlineModel(river="linear_model.LogisticRegression"), 2500
    online = Online(OnlineState(), wanted, OURS)
    delays: list[float] = []
    rng = np.random.default_rng(1)
    for place in range(7000):
        inputs = rng.uniform(0, 1, 3).tolist()
        online.answer(answered(place, inputs), place * 10**9, delays)
        late = place - delay
        if place < 5 or (late >= 0 and late % labelled_every == 0):
            online.label(taught(f"r{late}" if late >= 0 else "first", inputs), serves=True)
            delays = [*delays, float(delay)][-500:] if late >= 0 else delays
        assert len(online.state().pending if place % 1000 == 0 else ()) <= MOST_PENDING
    found = shown(online.state(), wanted)["when_answered"]
    assert 4 <= found["one_in"] <= 64
    assert found["rows"] > 20
    assert len(msgspec.msgpack.encode(online.state())) < 40_000


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("tree.HoeffdingAdaptiveTreeClassifier", 60),
        ("tree.LASTClassifier", 60),
        ("tree.SGTClassifier", 0),
        ("forest.ARFClassifier", 60),
        ("forest.AMFClassifier", 60),
        ("linear_model.LogisticRegression", 60),
        ("linear_model.PAClassifier", 0),
    ],
)
def test_models_of_every_kind_learn_numbers_and_categories_and_come_back(name: str, least: int) -> None:
    """Missing values, categories, two classes: none may stop a model; good ones find that red is 1."""
    learner = Learner(OnlineModel(river=name), SPEC)
    rng = np.random.default_rng(7)
    right = 0
    for place in range(200):
        x, colour = float(rng.normal(50, 10)), str(rng.choice(["red", "blue", "green"]))
        inputs: list[Any] = [x if place % 9 else None, colour if place % 11 else None]
        row, label = learner.row(inputs, MIXED), int(colour == "red")
        right += place >= 100 and learner.predict(row) == str(label)
        learner.learn(row, label)
        if place == 150:
            learner = Learner(OnlineModel(river=name), SPEC, learner.state())
    assert right >= least
    assert learner.predict(row) in ("0", "1")
    assert learner.row(["text", 3], MIXED).keys() == Learner(OnlineModel(river=name), SPEC).row([None, 3], MIXED).keys()
    assert learner.row(None, MIXED) == learner.row([1.0], MIXED) == {}


@pytest.mark.parametrize("name", ["tree.HoeffdingAdaptiveTreeRegressor", "linear_model.LinearRegression"])
def test_values_are_learned_on_their_own_scale(name: str) -> None:
    """Targets in the thousands, numbers beyond sense among the inputs: figures stay numbers."""
    wanted, rng = OnlineModel(river=name), np.random.default_rng(2)
    online = Online(OnlineState(), wanted, {1: Version(Manifest(model=MODEL, features=MIXED, prediction=VALUE))})
    for place in range(400):
        x = float(rng.uniform(0, 10))
        inputs = [x if place != 300 else 1e300, "red"]
        online.label(taught(f"r{place}", inputs, 5000 + 100 * x, 5500.0), serves=True)
    found = shown(online.state(), wanted)
    assert found["metric"] == "mae"
    assert found["when_labelled"]["rows"] > 350
    assert np.isfinite(found["when_labelled"]["online"])


def test_a_checkpoint_of_another_river_is_dropped_not_fatal() -> None:
    """An upgrade of river must not stop the monitor."""
    learner = Learner(TREE, SPEC, b"not a pickle")
    learner.learn(learner.row([1.0, 2.0, 3.0], FEATURES), 1)
    assert learner.predict(learner.row([1.0, 2.0, 3.0], FEATURES)) == "1"
