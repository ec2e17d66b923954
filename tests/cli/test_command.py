"""The command line: what it prints, with which exit code, and one clear line for what went wrong."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.cli.jobs import progress_line, read_label
from gateway.cli.journal import read_since
from gateway.cli.serve import serve
from gateway.settings import Settings
from tests.cli.conftest import Command, Running

COMMANDS = (
    "serve",
    "init",
    "publish",
    "train",
    "status",
    "models",
    "versions",
    "route",
    "weights",
    "rollout",
    "experiment",
    "alerts",
    "jobs",
    "feedback",
    "audit",
    "journal",
    "token",
    "apply",
    "demo",
)


def test_the_help_names_every_command_and_is_quick() -> None:
    """A help that loads a machine learning library is not read twice. Processor time: others may be busy here."""
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, "-m", "gateway.cli", "--help"], capture_output=True, text=True, check=True
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    for name in COMMANDS:
        assert f" {name} " in done.stdout
    assert "Exit codes" in done.stdout
    assert min(seconds) < 1.0


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_json(command: Command, name: str) -> None:
    done = command(name, "--help")
    assert done.code == 0
    if name not in ("serve", "rollout", "experiment", "journal", "token"):
        assert "--json" in done.out


def test_serve_knows_every_setting_as_a_flag(command: Command) -> None:
    """A setting that only the environment can set is found by nobody."""
    flags = set(serve.__annotations__) - {"return", "settings"}
    assert flags == set(Settings.model_fields)


def test_a_wrong_setting_stops_the_start_and_is_named(command: Command, tmp_path: Path) -> None:
    done = command("serve", "--workers", "many", "--listen", "nowhere")
    assert done.code == 1
    assert "workers" in done.err
    assert "listen" in done.err
    (tmp_path / "gateway.yaml").write_text("wrokers: 2\n")
    assert "wrokers" in command("serve").err


@pytest.mark.parametrize(
    "words",
    [
        ("nonsense",),
        ("status", "--nonsense"),
        ("publish",),
        ("publish", "m"),
        ("publish", "m", "no-such-file.onnx"),
        ("publish", "m", "x.onnx", "--all", "folder"),
        ("publish", "--all", "no-such-folder"),
        ("weights", "m", "four=10"),
        ("weights", "m", "4=101"),
        ("weights", "m"),
        ("rollout", "start", "m", "two"),
        ("jobs", "--cancel"),
        ("feedback",),
        ("journal", "export", "--format", "csv"),
        ("journal", "export", "--since", "yesterday", "--data", "."),
        ("token", "create", "x", "--scopes", "root"),
        ("train", "m", "--csv", "no-such-file.csv"),
    ],
)
def test_wrong_usage_is_exit_code_2(command: Command, words: tuple[str, ...]) -> None:
    done = command(*words)
    assert done.code == 2
    assert done.err


def test_a_gateway_that_is_not_there_is_exit_code_3(command: Command) -> None:
    done = command("status", "--url", "http://127.0.0.1:9")
    assert done.code == 3
    assert done.err.startswith("gateway: http://127.0.0.1:9 is not reachable")
    assert "Traceback" not in done.err


def test_a_refusal_is_exit_code_1_and_one_clear_line(command: Command, running: Running) -> None:
    done = command("models", "gas", *running.options)
    assert (done.code, len(done.err.splitlines())) == (1, 1)
    assert "there is no model 'gas'" in done.err
    done = command("status", "--url", running.url, "--token", "wrong")
    assert (done.code, "token" in done.err) == (1, True)


def test_status_models_and_versions(command: Command, running: Running) -> None:
    done = command("status", *running.options)
    assert done.code == 0
    assert "electricity" in done.out
    assert "@1" in done.out
    [model] = command("status", "--json", *running.options).json["models"]
    assert model["name"] == "electricity"
    assert "electricity@3" in command("models", *running.options).out
    assert command("models", "electricity", "--json", *running.options).json["name"] == "electricity"
    assert "electricity@2" in command("versions", "electricity", *running.options).out
    assert command("versions", "electricity", "--number", "2", "--json", *running.options).json["number"] == 2
    assert command("versions", "electricity", "--release", "2", *running.options).code == 1


def test_the_token_comes_from_the_environment_or_the_data_directory(
    command: Command, running: Running, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """What `gateway serve` printed must be enough to start with."""
    assert command("status", "--url", running.url).code == 1
    (tmp_path / "gateway-data").mkdir()
    (tmp_path / "gateway-data" / "admin-token").write_text(running.office.secrets["read"])
    assert command("status", "--url", running.url).code == 0
    monkeypatch.setenv("GATEWAY_TOKEN", "wrong")
    assert command("status", "--url", running.url).code == 1


def test_weights_and_route(command: Command, running: Running, tmp_path: Path) -> None:
    done = command("weights", "electricity", "2=10", "3=2.5", "--reason", "look", *running.options)
    assert done.code == 0, done.err
    assert "87.5 %" in done.out
    shown = command("route", "electricity", "--json", *running.options).json
    assert shown["etag"]
    file = tmp_path / "route.json"
    file.write_text(json.dumps({"champion": 1, "shadows": [{"version": 3}]}))
    stale = command("route", "electricity", "--set", str(file), "--if-match", '"1"', *running.options)
    assert (stale.code, "revision" in stale.err) == (1, True)
    assert "shadow" in command("route", "electricity", "--set", str(file), *running.options).out
    file.write_text("{")
    assert command("route", "electricity", "--set", str(file), *running.options).code == 2
    assert "look" in command("audit", *running.options).out
    assert command("audit", "electricity", "--json", *running.options).json["entries"]


def test_a_rollout_by_command(command: Command, running: Running) -> None:
    options = running.options
    assert command("rollout", "start", "electricity", "2", "--reason", "new", *options).code == 0
    assert command("rollout", "show", "electricity", "--json", *options).json["version"] == 2
    assert command("rollout", "compare", "electricity", "--json", *options).json["model"] == "electricity"
    assert "paused" in command("rollout", "pause", "electricity", *options).out
    assert command("rollout", "resume", "electricity", *options).code == 0
    assert "champion is now version 1" in command("rollout", "roll-back", "electricity", *options).out
    assert command("rollout", "promote", "electricity", *options).code == 1
    rehearsed = command("rollout", "start", "electricity", "3", "--plan", "blue_green", "--dry-run", "--json", *options)
    assert (rehearsed.json["plan"], rehearsed.json["dry_run"]) == ("blue_green", True)
    assert command("rollout", "roll-back", "electricity", "--reason", "seen enough", *options).code == 0
    assert "is frozen" in command("rollout", "freeze", "electricity", *options).out
    assert "no longer" in command("rollout", "unfreeze", "electricity", *options).out


def test_an_experiment_by_command(command: Command, running: Running) -> None:
    options = running.options
    words = ("2=10", "3=5.5", "--metric", "errors", "--alpha", "0.1", "--at-most", "7d", "--reason", "which?")
    started = command("experiment", "start", "electricity", *words, *options)
    assert started.code == 0, started.err
    assert "experiment 1 of electricity: errors, lower is better" in started.out
    shown = command("experiment", "status", "electricity", "--json", *options).json
    assert (shown["alpha"], shown["at_most"], [arm["weight"] for arm in shown["arms"]]) == (
        0.1,
        604800,
        [84.5, 10, 5.5],
    )
    assert "experiment @2 @3 undecided" in command("status", *options).out
    refused = command("experiment", "start", "electricity", "2=10", *options)
    assert (refused.code, "gateway experiment stop electricity" in refused.err) == (1, True)
    assert command("experiment", "start", "electricity", "two", *options).code == 2
    stopped = command("experiment", "stop", "electricity", "--reason", "enough", *options)
    glanced = command("models", "electricity", "--json", *options).json["experiment"]
    assert (glanced["phase"], glanced["versions"], glanced["reason"]) == ("ended", [2, 3], "enough")
    assert "experiment @2" not in command("status", *options).out
    assert "ended since" in stopped.out
    assert ": enough" in stopped.out
    assert "verdict: undecided" in stopped.out


def test_jobs_and_alerts(command: Command, running: Running) -> None:
    options = running.options
    job = command("train", "electricity", "--reason", "please", "--json", *options).json
    assert job["state"] == "queued"
    assert job["id"] in command("jobs", *options).out
    assert "please" in command("jobs", job["id"], *options).out
    assert command("jobs", job["id"], "--cancel", "--json", *options).json["cancel"] is True
    for words in (("alerts",), ("alerts", "electricity"), ("alerts", "list", "electricity")):
        assert "no alerts" in command(*words, *options).out
    assert command("alerts", "electricity", "--json", *options).json["alerts"] == []
    assert command("alerts", "--acknowledge", "nobody", *options).code == 1


def test_policies_are_applied_and_shown(command: Command, running: Running, tmp_path: Path) -> None:
    folder = tmp_path / "router_config"
    folder.mkdir()
    file = folder / "electricity.yaml"
    file.write_text("deadline_ms: 99\nstickey: none\n")
    done = command("apply", *running.options)
    assert done.code == 1
    assert "electricity.yaml:2:1: stickey" in done.err
    file.write_text("deadline_ms: 99\nretraining: {recipe: models/electricity.py}\n")
    done = command("apply", "--json", *running.options)  # somebody wrote the stored policy by hand
    assert (done.code, done.json["applied"][0]["state"]) == (1, "diverged")
    assert "taken over" in command("apply", "--force", *running.options).out
    assert "as stored" in command("apply", *running.options).out
    file.write_text("deadline_ms: 98\nretraining: {recipe: models/electricity.py}\n")
    assert "taken over" in command("apply", str(file), *running.options).out
    assert "deadline_ms: 98.0" in command("apply", "--show", "electricity", *running.options).out
    assert command("apply", str(tmp_path / "none"), *running.options).code == 1


@pytest.mark.parametrize(
    ("text", "label"), [("1", 1), ("0.5", 0.5), ("true", True), ("yes", "yes"), ("[1]", "[1]"), ('"1"', "1")]
)
def test_a_label_is_what_it_looks_like(text: str, label: object) -> None:
    assert read_label(text) == label


def test_since_is_an_age_or_a_moment() -> None:
    assert read_since(None) is None
    assert read_since("1970-01-01T00:00:01+00:00") == 1_000_000_000
    now = time.time()
    assert abs((read_since("1h") or 0) / 1e9 - (now - 3600)) < 5


def test_progress_of_a_job_is_said_in_a_few_words() -> None:
    """A step, and how much of it is done where that is known."""
    running = {"state": "running", "progress": {"step": "try tree on rows:1000", "done": 2, "total": 6}}
    assert progress_line(running) == "try tree on rows:1000 (2 of 6 done)"
    assert progress_line({"state": "running", "progress": {"step": "gate", "done": 0, "total": 0}}) == "gate"
    assert progress_line({"state": "published", "progress": {"step": "gate"}}) == "published"
