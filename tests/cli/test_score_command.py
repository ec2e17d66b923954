"""`gateway score` over a real data directory, with the version in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Command
from tests.offline.making import manifest, threshold_model


@pytest.fixture
def data(command: Command, tmp_path: Path) -> Path:
    """A data directory with one version, that nobody serves."""
    package = tmp_path / "package"
    package.mkdir()
    (package / "model.onnx").write_bytes(threshold_model(5.0))
    features = [{"name": one.name, "low": one.low, "high": one.high} for one in manifest().features]
    features[1]["may_be_missing"] = True
    (package / "manifest.json").write_text(json.dumps({"features": features}))
    done = command("publish", "m", str(package), "--data", "d")
    assert done.code == 0, done.err
    return tmp_path / "d"


def test_a_file_is_scored_in_a_process_of_its_own(command: Command, data: Path, tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("id,a\n1,7\n2,\n3,11\n")
    done = command("score", "m", "in.csv", "out.csv", "--version", "1", "--data", str(data))
    assert done.code == 0, done.err
    assert (done.out, done.err.splitlines()[0]) == ("", "m@1: 3 rows, 1 rejected, 1 flagged -> out.csv")
    assert "no column b: taken as missing in every row" in done.err
    lines = (tmp_path / "out.csv").read_text().splitlines()
    assert lines[0] == "id,a,prediction,probability_0,probability_1,flags,rejected"
    assert lines[2] == "2,,,,,,a is missing"
    told = command("score", "m", "in.csv", "out.csv", "--version", "1", "--data", str(data), "--json").json
    assert (told["version"], told["rows"], told["rejected"], told["out"]) == ("m@1", 3, 1, "out.csv")
    strict = command("score", "m", "in.csv", "-", "--strict", "--version", "1", "--data", str(data))
    assert (strict.code, "row 2: a is missing" in strict.err) == (1, True)
    # Wrong orders are told.
    (tmp_path / "in.csv").write_text("id,b\n1,7\n")
    words = ("--version", "1", "--data", str(data))
    assert "takes a, b" in command("score", "m", "in.csv", "out.csv", *words).err
    assert command("score", "m", "in.csv", "-", "--json", *words).code == 2
    assert "no champion yet" in command("score", "m", "in.csv", "o.csv", "--data", str(data)).err
    assert "no data directory" in command("score", "m", "in.csv", "o.csv", "--data", "nowhere").err
