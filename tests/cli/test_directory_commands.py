"""Commands that work on a data directory without a running gateway."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from gateway.app.build import open_stores
from gateway.journal.record import Feedback, Prediction
from gateway.names import Outcome, Reason, Role
from gateway.settings import Settings
from tests.cli.conftest import Command


def write_model(path: Path, factor: float) -> Path:
    graph = helper.make_graph(
        [helper.make_node("Mul", ["X", "factor"], ["score"])],
        "m",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [None, 2])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, [None, 2])],
        [onnx.numpy_helper.from_array(np.array([factor], np.float32), "factor")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


def test_publish_prints_the_version_first_and_then_what_happens_next(command: Command, tmp_path: Path) -> None:
    file = write_model(tmp_path / "m.onnx", 2)
    (tmp_path / "s.csv").write_text("a,b\n1,2\n3,4\n")
    done = command("publish", "m", str(file), "--reference", "s.csv", "--data", "d")
    assert done.code == 0, done.err
    first, second = done.out.splitlines()[:2]
    assert (first, "first version" in second) == ("m@1", True)
    again = command("publish", "m", str(file), "--reference", "s.csv", "--data", "d", "--json").json
    assert (again["version"], again["new"]) == ("m@1", False)
    listed = command("versions", "m", "--data", "d", "--json").json["versions"]
    assert [feature["name"] for feature in listed[0]["features"]] == ["a", "b"]
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"no model")
    refused = command("publish", "m", str(bad), "--data", "d")
    assert (refused.code, "not an ONNX model" in refused.err) == (1, True)
    assert command("publish", "../m", str(file), "--data", "d").code == 1


def test_publish_all_takes_both_layouts_and_goes_on_behind_a_bad_one(command: Command, tmp_path: Path) -> None:
    folder = tmp_path / "all"
    write_model(folder / "plain" / "model.onnx", 1)
    for number in (10, 2, 1):
        write_model(folder / "many" / str(number) / "model.onnx", number)
    (folder / "broken").mkdir()
    (folder / "broken" / "model.onnx").write_bytes(b"no")
    done = command("publish", "--all", str(folder), "--data", "d", "--json")
    assert done.code == 1
    assert [one["version"] for one in done.json["published"]] == ["plain@1", "many@1", "many@2", "many@3"]
    assert "broken" in done.json["failed"][0]["path"]


def test_tokens_are_made_listed_and_revoked(command: Command) -> None:
    made = command("token", "create", "ci", "--scopes", "read,publish", "--days", "30", "--data", "d", "--json").json
    assert made["scopes"] == ["read", "publish"]
    listed = command("token", "list", "--data", "d")
    assert "ci" in listed.out
    assert made["token"] not in listed.out
    assert command("token", "create", "ci", "--data", "d").code == 1
    assert command("token", "revoke", "ci", "--data", "d").code == 0
    assert command("token", "list", "--data", "d", "--json").json["tokens"][0]["revoked"] is True
    assert command("token", "revoke", "nobody", "--data", "d").code == 1


def test_a_token_may_carry_a_quota(command: Command) -> None:
    create = ("token", "create", "shop", "--scopes", "predict", "--data", "d")
    assert "requests_per_second" in command(*create, "--burst", "5").err
    assert command(*create, "--requests-per-second", "0").code == 1
    assert command(*create, "--requests-per-second", "50").code == 0
    made = command("token", "list", "--data", "d", "--json").json["tokens"][0]
    assert (made["requests_per_second"], made["burst"]) == (50.0, 50.0)
    assert "50/s, 50 at once" in command("token", "list", "--data", "d").out


def test_apply_takes_files_over_without_a_gateway(command: Command, tmp_path: Path) -> None:
    (tmp_path / "router_config").mkdir()
    (tmp_path / "router_config" / "m.yaml").write_text("deadline_ms: 5\n")
    done = command("apply", "--data", "d", "--json")
    assert (done.code, done.json["applied"][0]["state"]) == (0, "applied")
    (tmp_path / "router_config" / "m.yaml").write_text("deadline_ms: x\n")
    assert "m.yaml:1:1: deadline_ms" in command("apply", "--data", "d").err


def prediction(name: str, model: str = "m", **fields: object) -> Prediction:
    given = {
        "id": name,
        "model": model,
        "version": 1,
        "role": Role.CHAMPION,
        "reason": Reason.FIRST,
        "revision": 3,
        "outcome": Outcome.OK,
        "latency_us": 1500,
        "rows": 2,
        "contract": 1,
        "inputs": [[1.0, 2.0], [3.0, 4.0]],
        "outputs": {"score": [[2.0, 4.0], [6.0, 8.0]]},
    }
    return Prediction(**(given | fields))  # type: ignore[arg-type]


@pytest.fixture
def journal(command: Command, tmp_path: Path) -> Path:
    """Two predictions of two rows each, one of another model, and a label that came twice."""
    data = tmp_path / "d"
    (tmp_path / "s.csv").write_text("a,b\n1,2\n")
    model = write_model(tmp_path / "m.onnx", 2)
    assert command("publish", "m", str(model), "--reference", "s.csv", "--data", "d").code == 0
    stores = open_stores(Settings(data=data))
    tee = stores.open_tee("traffic", "w0")
    for record in (
        prediction("p1"),
        prediction("p2", model="other"),
        Feedback(id="p1", row=1, label=1),
        Feedback(id="p1", row=1, label=0),
        Feedback(id="p2", row=0, label=1),
    ):
        tee.offer(record)
    assert tee.flush()
    tee.close()
    stores.close()
    return data


def test_export_writes_a_line_for_each_row_and_joins_labels(command: Command, journal: Path) -> None:
    lines = [json.loads(line) for line in command("journal", "export", "--data", str(journal)).out.splitlines()]
    assert [line["kind"] for line in lines].count("feedback") == 3
    first = lines[0]
    assert (first["id"], first["row"], first["version"], first["latency_ms"]) == ("p1", 0, 1, 1.5)
    assert first["inputs"] == {"a": 1.0, "b": 2.0}
    assert first["outputs"] == {"score": [2.0, 4.0]}
    joined = command("journal", "export", "--joined", "--model", "m", "--data", str(journal)).out.splitlines()
    rows = [json.loads(line) for line in joined]
    assert [(row["id"], row["row"], row["label"]) for row in rows] == [("p1", 0, None), ("p1", 1, 1)]
    assert command("journal", "export", "--since", "1h", "--data", str(journal)).out.count("\n") == len(lines)
    assert command("journal", "export", "--since", "2100-01-01", "--data", str(journal)).out == ""


def test_export_to_parquet(command: Command, journal: Path, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    out = tmp_path / "journal.parquet"
    words = ("journal", "export", "--format", "parquet", "--joined", "--data", str(journal))
    assert command(*words).code == 2  # needs --out
    assert command(*words, "--out", str(out)).code == 0
    table = pq.read_table(out)
    assert table.column("id").to_pylist() == ["p1", "p1", "p2", "p2"]
    assert table.column("label").to_pylist() == [None, "1", "1", None]
    assert table.column("inputs").to_pylist()[0] == '{"a":1.0,"b":2.0}'
    assert command(*words, "--model", "m", "--out", str(out)).code == 0
    inputs = pq.read_table(out).column("inputs")
    assert inputs.to_pylist() == [{"a": 1.0, "b": 2.0}, {"a": 3.0, "b": 4.0}]
    assert str(inputs.type) == "struct<a: double, b: double>"


def test_a_journal_that_is_not_there_is_said_and_not_made(command: Command, tmp_path: Path) -> None:
    done = command("journal", "export", "--data", "nowhere")
    assert (done.code, "no data directory" in done.err) == (1, True)
    assert not (tmp_path / "nowhere").exists()


def test_init_makes_a_project_and_leaves_what_is_there(command: Command, tmp_path: Path) -> None:
    """What it writes must be read by the gateway itself."""
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "Dockerfile").write_text("mine")
    done = command("init", "p", "--json")
    assert "Dockerfile" in done.json["kept"]
    assert (tmp_path / "p" / "Dockerfile").read_text() == "mine"
    assert command("init", "p", "--json").json["written"] == []
    from gateway.app.policies import read_policy_file
    from gateway.retraining.recipe import load_recipe
    from gateway.settings import read_settings

    read_settings({}, {}, tmp_path / "p" / "gateway.yaml")
    assert read_policy_file(tmp_path / "p" / "router_config" / "example.yaml")[1].model == "example"
    assert load_recipe(tmp_path / "p" / "models" / "example.py").model == "example"


TEXTS = """
from gateway.retraining.recipe import Feature, Recipe

def trees():
    from sklearn.tree import DecisionTreeClassifier
    return DecisionTreeClassifier(max_depth=4)

recipe = Recipe(model="colours", features=[Feature(name="a"), Feature(name="colour", kind="categorical")], label="y",
                classes=[0, 1], candidates={"trees": trees}, holdout_rows=100, validation_rows=100, least_rows=50)
"""


def test_train_with_texts_is_published_and_made_again(command: Command, tmp_path: Path) -> None:
    """A version from a file: texts pass the publish check, and the same file gives the same digest."""
    rows = [(number * 37 % 101 / 101, ("red", "blue", "")[number % 3]) for number in range(500)]
    lines = [f"{a},{colour},{int((a > 0.5) != (colour == 'red'))}" for a, colour in rows]
    (tmp_path / "rows.csv").write_text("\n".join(["a,colour,y", *lines]) + "\n")
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "colours.py").write_text(TEXTS)
    file = ("--csv", str(tmp_path / "rows.csv"), "--models", str(tmp_path / "models"), "--data", str(tmp_path / "data"))
    made = command("train", "colours", *file, "--json")
    assert made.json["version"] == "colours@1"
    again = command("train", "--reproduce", "colours@1", *file, "--json")
    assert (again.code, again.json["same"]) == (0, True)
    others = [line.replace("0.3", "0.7") for line in lines]
    (tmp_path / "rows.csv").write_text("\n".join(["a,colour,y", *others]) + "\n")
    other = command("train", "--reproduce", "colours@1", *file, "--json")
    assert (other.code, other.json["same"]) == (1, False)
    assert "the rows are others" in other.json["differences"][0]
    out = ("--export", str(tmp_path / "rows.parquet"))
    assert command("train", "--reproduce", "colours@1", "--data", str(tmp_path / "data"), *out).code == 1
    unkept = command("train", "--reproduce", "colours@1", "--data", str(tmp_path / "data"))
    assert (unkept.code, "--csv FILE" in unkept.err) == (1, True)
