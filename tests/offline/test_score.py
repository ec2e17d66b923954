"""Scoring a file: the answers of serving, reasons beside rejected rows, and the same bytes after an end half-way."""

from __future__ import annotations

import csv
import gzip
import io
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from gateway.documents.lease import Condition
from gateway.documents.policy import Policy
from gateway.documents.store import condition_name
from gateway.errors import InvalidConfig, InvalidInput, ModelNotFound, NotAllowed, VersionNotFound
from gateway.execution.contract import Contract
from gateway.execution.session import load
from gateway.execution.tensors import to_json
from gateway.names import VersionId
from gateway.offline import source
from gateway.offline.answer import Answering, Column
from gateway.offline.score import Order, Scored, score
from gateway.offline.sink import PartFile, encoder_of
from gateway.rollout.present import read_present
from tests.offline.making import MODEL, InlineRuns, Office, inline


class Cut(Exception):
    """The end half-way."""


async def scored(office: Office, source: Path | str, out: Path | str, **fields: Any) -> Scored:
    order = Order(model=MODEL, source=str(source), out=str(out), **fields)
    return await score(order, office.stores.config, office.stores.registry, lambda *_: None, inline)


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def rows_file(path: Path, rows: int) -> Path:
    """Rows with an id; every seventh has no `a`, every eleventh a text in its place."""
    values = ["" if n % 7 == 3 else "odd" if n % 11 == 5 else str(n % 12) for n in range(rows)]
    path.write_text("id,b,a\n" + "".join(f"r{n},{n / 8},{value}\n" for n, value in enumerate(values)))
    return path


async def test_a_row_has_its_answer_or_its_reason_and_keeps_its_columns(office: Office, tmp_path: Path) -> None:
    await office.publish()
    await office.serve()
    file = tmp_path / "in.csv"
    file.write_text('id,a,b\n"x,1",7,1\n,5,\ny,,2\nz,abc,2\nw,99,2\nv,1\n')
    done = await scored(office, file, tmp_path / "out.csv")
    found = table(tmp_path / "out.csv")
    assert list(found[0]) == ["id", "a", "b", "prediction", "probability_0", "probability_1", "flags", "rejected"]
    assert [row["prediction"] for row in found] == ["1", "0", "", "", "1", ""]
    assert [row["rejected"] for row in found] == [
        "",
        "",
        "a is missing",
        "a must be a number, not the text 'abc'",
        "",
        "the row has 2 values, the header names 3",
    ]
    assert [row["flags"] for row in found] == ["", "", "", "", "out_of_range", ""]
    assert (found[0]["id"], found[1]["b"], found[0]["probability_1"]) == ("x,1", "", "0.8999999761581421")
    assert done == Scored("m@1", 6, 3, 1, 0, (), ("id",))
    assert names_in(tmp_path) == ["in.csv", "out.csv", "packages"]


async def test_the_policy_decides_what_is_rejected_clipped_or_let_through(office: Office, tmp_path: Path) -> None:
    await office.publish()
    await office.serve(inputs={"missing": "flag", "fields": {"a": {"out_of_range": "reject"}}})
    file = tmp_path / "in.csv"
    file.write_text("a,b\n,1\n99,1\n")
    await scored(office, file, tmp_path / "out.csv", keep=("b",))
    first, second = table(tmp_path / "out.csv")
    assert (first["flags"], first["rejected"]) == ("missing", "")
    assert second["rejected"] == "a 99.0 is outside 0 to 10"
    assert "a" not in first


async def test_each_row_gets_what_serving_answers_to_it_alone(office: Office, tmp_path: Path) -> None:
    """Same contract, same run, same numbers."""
    version = await office.publish()
    await office.serve()
    file = tmp_path / "in.csv"
    file.write_text("a,b\n" + "".join(f"{n / 3},{n}\n" for n in range(20)))
    await scored(office, file, tmp_path / "out.csv")
    _, package = await office.stores.registry.fetch(version.version, tmp_path / "again")
    loaded = load(version, package)
    contract = Contract(version, (await policy_of(office)).inputs)
    for row in table(tmp_path / "out.csv"):
        alone = contract.records({"a": float(row["a"]), "b": float(row["b"])})
        listed, _ = to_json(loaded.run(alone.tensors))
        assert [float(row["probability_0"]), float(row["probability_1"])] == listed["probabilities"][0]
        assert int(row["prediction"]) == listed["label"][0]


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "parquet"])
async def test_a_run_that_goes_on_writes_what_one_run_writes(
    office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    """Byte for byte, wherever it ended, also when half a batch had been written."""
    if suffix == "parquet":
        pytest.importorskip("pyarrow")
    monkeypatch.setattr(source, "BATCH_ROWS", 16)
    await office.publish()
    await office.serve()
    file = rows_file(tmp_path / "in.csv", 75)
    whole = tmp_path / f"whole.{suffix}"
    await scored(office, file, whole)
    for batches in (1, 3):
        out = tmp_path / f"out{batches}.{suffix}"
        seen: list[int] = []

        def stop(*told: Any, seen: list[int] = seen, batches: int = batches) -> None:
            seen.append(told[-1])
            if len(seen) == batches:
                raise Cut

        order = Order(model=MODEL, source=str(file), out=str(out))
        with pytest.raises(Cut):
            await score(order, office.stores.config, office.stores.registry, stop, inline)
        assert not out.exists()
        with (tmp_path / f"{out.name}.part").open("ab") as part:
            part.write(b"half a ba")
        with pytest.raises(NotAllowed, match="--resume"):
            await scored(office, file, out)
        done = await scored(office, file, out, resumes=True)
        assert (done.rows, done.resumed) == (75, 16 * batches)
        assert out.read_bytes() == whole.read_bytes()


async def test_a_part_file_of_another_run_is_not_gone_on_with(
    office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(source, "BATCH_ROWS", 16)
    await office.publish(limit=5.0)
    await office.publish(limit=6.0)
    await office.serve(1)
    file, out = rows_file(tmp_path / "in.csv", 40), tmp_path / "out.csv"

    def stop(*_: Any) -> None:
        raise Cut

    order = Order(model=MODEL, source=str(file), out=str(out), version=2)
    with pytest.raises(Cut):
        await score(order, office.stores.config, office.stores.registry, stop, inline)
    with pytest.raises(NotAllowed, match="of another run"):
        await scored(office, file, out, version=1, resumes=True)
    assert (await scored(office, file, out, resumes=True)).version == "m@2"  # the one it began with
    order = Order(model=MODEL, source=str(file), out=str(out))
    with pytest.raises(Cut):
        await score(order, office.stores.config, office.stores.registry, stop, inline)
    rows_file(file, 41)
    with pytest.raises(NotAllowed, match="of another run"):
        await scored(office, file, out, resumes=True)


async def test_two_runs_do_not_write_one_output(office: Office, tmp_path: Path) -> None:
    await office.publish()
    await office.serve()
    file, out = rows_file(tmp_path / "in.csv", 20), tmp_path / "out.csv"
    held = PartFile(out, encoder_of(str(out), [], [Column("flags", "text")]), 0)
    with closing(held), pytest.raises(NotAllowed, match="written by another run"):
        await scored(office, file, out)
    assert (await scored(office, file, out)).rows == 20


async def test_strict_ends_at_the_first_rejected_row(office: Office, tmp_path: Path) -> None:
    await office.publish()
    await office.serve()
    file = tmp_path / "in.csv"
    file.write_text("a,b\n1,1\n2,1\n,1\n")
    with pytest.raises(InvalidInput, match="row 3: a is missing"):
        await scored(office, file, tmp_path / "out.csv", is_strict=True)
    assert not (tmp_path / "out.csv").exists()


async def test_parquet_in_and_out_keeps_types(office: Office, tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    await office.publish()
    await office.serve()
    columns = {
        "when": pa.array([1, 2, 3], pa.timestamp("us")),
        "city": pa.array(["ulm", "bonn", "ulm"]).dictionary_encode(),
        "a": pa.array([7, None, 1], pa.int32()),
        "b": pa.array([float("nan"), 1.0, 2.0]),
    }
    pq.write_table(pa.table(columns), tmp_path / "in.parquet", row_group_size=2)
    await scored(office, tmp_path / "in.parquet", tmp_path / "out.parquet")
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.schema.field("when").type == pa.timestamp("us")
    assert found.column("city").to_pylist() == ["ulm", "bonn", "ulm"]
    assert found.column("prediction").to_pylist() == [1, None, 0]
    assert found.column("rejected").to_pylist() == [None, "a is missing", None]
    assert found.schema.field("probability_1").type == pa.float64()
    await scored(office, tmp_path / "in.parquet", tmp_path / "out.csv")
    assert [row["prediction"] for row in table(tmp_path / "out.csv")] == ["1", "", "0"]


async def test_pipes_on_both_sides(
    office: Office, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    await office.publish()
    await office.serve()

    class Piped:
        buffer = io.BytesIO(b"\xef\xbb\xbfa,b\n7,1\n")

    monkeypatch.setattr(sys, "stdin", Piped)
    await scored(office, "-", "-", keep=("a",))
    assert capsys.readouterr().out.splitlines()[1].startswith("7,1,0.1")
    with pytest.raises(NotAllowed, match="--resume"):
        await scored(office, "-", "-", resumes=True)


async def test_what_can_not_be_scored_is_told_before_anything_is_written(office: Office, tmp_path: Path) -> None:
    file = rows_file(tmp_path / "in.csv", 3)
    with pytest.raises(ModelNotFound, match="there is no model 'm' here"):
        await scored(office, file, tmp_path / "out.csv")
    await office.publish()
    with pytest.raises(NotAllowed, match="no champion yet; name a version"):
        await scored(office, file, tmp_path / "out.csv")
    with pytest.raises(VersionNotFound, match="m@4; there are 1"):
        await scored(office, file, tmp_path / "out.csv", version=4)
    await office.put(condition_name(VersionId(MODEL, 1)), Condition(quarantined=True, reason="it crashed"))
    with pytest.raises(NotAllowed, match=r"quarantined \(it crashed\).*--release 1"):
        await scored(office, file, tmp_path / "out.csv", version=1)
    for name in ("in.txt", "no.csv"):
        with pytest.raises(InvalidConfig):
            await scored(office, tmp_path / name, tmp_path / "out.csv", version=1)
    assert names_in(tmp_path) == ["in.csv", "packages"]


async def test_broken_files_are_told_with_the_row(office: Office, tmp_path: Path) -> None:
    await office.publish()
    await office.serve()
    (tmp_path / "in.csv").write_bytes(b"a,b\n1,2\n\xff,3\n")
    with pytest.raises(InvalidConfig, match="row 2 can not be read"):
        await scored(office, tmp_path / "in.csv", tmp_path / "out.csv")
    (tmp_path / "in.csv.gz").write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 20)[:-12])
    with pytest.raises(InvalidConfig, match="can not be read"):
        await scored(office, tmp_path / "in.csv.gz", tmp_path / "out2.csv")


async def test_a_row_that_the_model_fails_on_harms_no_other(office: Office, tmp_path: Path) -> None:
    """Rows share a run; when it fails each is tried alone."""
    version = await office.publish()
    await office.serve()
    _, package = await office.stores.registry.fetch(version.version, tmp_path / "package")
    runs = InlineRuns(load(version, package, warm_up_rows=1), fails_beyond=8.0)
    answering = Answering(version, await policy_of(office))
    found = await answering.answer(runs, [[float(n), 1.0] for n in range(10)])
    assert [one.rejected for one in found] == [""] * 9 + ["the model failed on these inputs"]
    assert runs.runs == [10, *[1] * 10]


async def test_rows_share_a_run_only_where_callers_may(office: Office, tmp_path: Path) -> None:
    """What runs differently joined would not be what serving answers."""
    version = await office.publish(joins=False)
    _, package = await office.stores.registry.fetch(version.version, tmp_path / "package")
    runs = InlineRuns(load(version, package, warm_up_rows=1))
    await Answering(version, await policy_of(office)).answer(runs, [[1.0, 1.0]] * 3)
    assert runs.runs == [1, 1, 1]


async def policy_of(office: Office) -> Policy:
    return (await read_present(office.stores.config, office.stores.registry, MODEL)).policy
