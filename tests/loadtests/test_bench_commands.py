"""What the bench starts: command lines, requests, the load tool's script and its closing line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from loadtests.bench import arguments, environments, load, material, subjects
from loadtests.bench.environments import Missing, Ready
from loadtests.bench.load import Load, LoadFailed, Request
from tests.loadtests import bench_making

MADE = bench_making.material()
ONE = Request("/predict", (b"{}",), "plain")


def test_quick_is_short_and_leaves_the_extras_out() -> None:
    """`make bench ARGS=--quick` is what one runs between two edits."""
    quick, full = arguments.read(["--quick"]), arguments.read([])
    assert (quick.rounds, quick.most, quick.extras) == (3, 3, False)
    assert (full.rounds, full.most, full.extras) == (5, 10, True)
    assert quick.seconds < full.seconds
    assert arguments.read(["--quick", "--rounds", "7"]).rounds == 7


@pytest.mark.parametrize(
    "words", [["--rounds", "0"], ["--server-core", "1"], ["--rounds", "5", "--most", "4"], ["--load-tool", "ab"]]
)
def test_wrong_usage_ends_with_2(words: list[str]) -> None:
    """Nothing is started for it."""
    with pytest.raises(SystemExit) as ended:
        arguments.read(words)
    assert ended.value.code == 2


def test_names_of_subjects_are_chosen_and_checked() -> None:
    """A misspelt peer must not end in a table without it."""
    every = [*subjects.gateways(MADE, True), *subjects.floors(MADE), *subjects.peers(MADE)]
    asked = arguments.read(["--only", "node, gateway,ry", "--without", "kserv"])
    chosen, unknown = subjects.choose(every, asked.only, asked.without)
    assert [one.key for one in chosen] == ["gateway", "node"]
    assert unknown == ["ry", "kserv"]
    everything, _ = subjects.choose(every, (), ("node",))
    assert len(everything) == len(every) - 1


def test_both_edges_are_measured_where_there_are_two() -> None:
    """Before `--edge` exists the flag would stop the gateway."""
    one = subjects.gateways(MADE, has_edge=False)
    two = subjects.gateways(MADE, has_edge=True)
    assert not any("--edge" in subject.program for subject in one)
    edges = {subject.key: subject.program[subject.program.index("--edge") + 1] for subject in two}
    assert edges == {"gateway": "fast", "gateway-asgi": "asgi", "gateway-control": "fast"}


def test_a_program_gets_its_places_filled_in() -> None:
    """A place that nobody fills must not reach a shell as a brace."""
    (gateway, *_) = subjects.gateways(MADE, has_edge=False)
    values = {"data": "d", "config": "c", "port": "1", "admin": "2"}
    words = subjects.fill(gateway.program, values)
    assert words[words.index("--listen") + 1] == "127.0.0.1:1"
    assert not any("{" in word for word in words)
    with pytest.raises(KeyError):
        subjects.fill(gateway.program, {"port": "1"})


def test_keys_and_programs_of_subjects() -> None:
    """Keys name results; every program lies in the repository and every peer's environment is known."""
    every = [*subjects.gateways(MADE, True), *subjects.extras(MADE, True)]
    every += [*subjects.floors(MADE), *subjects.peers(MADE)]
    keys = [subject.key for subject in every]
    assert len(set(keys)) == len(keys)
    for subject in every:
        if subject.route is None:
            assert Path(subject.program[1]).is_file()
        if subject.environment is not None:
            assert subject.environment in environments.PYTHON | environments.NODE
    assert set(subjects.QUICK) <= set(keys)


def test_bytes_are_the_same_for_all_who_take_them() -> None:
    """Only the protocol may make a request differ."""
    gateway = subjects.gateways(MADE, True)[0].requests["one"]
    takers = {one.key: one.requests["one"].bodies for one in [*subjects.floors(MADE), *subjects.peers(MADE)]}
    same = [key for key, bodies in takers.items() if bodies == gateway.bodies]
    assert set(takers) - set(same) == {"mlserver", "kserve"}
    assert json.loads(gateway.bodies[0]) == {"model": "bench", "inputs": [[1.0] * 30]}


def test_a_hundred_models_get_a_body_each() -> None:
    """And what they are compared with gets as many bodies, for one model."""
    extras = {one.key: one.requests["one"].bodies for one in subjects.extras(MADE, False)}
    models = {json.loads(body)["model"] for body in extras["gateway-100"]}
    assert len(models) == material.MODELS
    assert len(extras["gateway-rotating"]) == material.MODELS
    assert set(extras["gateway-rotating"]) == {subjects.gateways(MADE, False)[0].requests["one"].bodies[0]}


def test_the_binary_request_is_json_and_then_the_tensor() -> None:
    """The header says where the JSON ends."""
    request = material.v2_binary_request(MADE.batch)
    at = int(request.headers["Inference-Header-Content-Length"])
    (tensor,) = json.loads(request.bodies[0][:at])["inputs"]
    assert tensor["parameters"] == {"binary_data_size": 64 * 30 * 4}
    assert request.bodies[0][at:] == MADE.batch.tobytes()


def test_wrk_is_told_connections_whole_seconds_and_a_script(tmp_path: Path) -> None:
    """One thread: it has one core."""
    words = load.command(Load("wrk", 16, 2.4), ONE, 8080, tmp_path)
    assert words[:5] == ["wrk", "-t1", "-c16", "-d2s", "--latency"]
    assert words[-1] == "http://127.0.0.1:8080/predict"
    script = Path(words[words.index("-s") + 1]).read_text()
    assert 'wrk.headers["Content-Type"] = "application/json"' in script
    # A request function would be called for each request: with one body wrk sends what it has formatted once.
    assert "function request" not in script
    assert (tmp_path / "body-0").read_bytes() == b"{}"


def test_several_bodies_are_taken_in_turn(tmp_path: Path) -> None:
    """100 models are 100 bodies."""
    words = load.command(Load("wrk", 16, 1), Request("/predict", (b"a", b"b"), "plain"), 1, tmp_path)
    script = Path(words[words.index("-s") + 1]).read_text()
    assert "function request" in script
    assert str(tmp_path / "body-1") in script


def test_our_own_generator_gets_the_same_request(tmp_path: Path) -> None:
    """As a plan in a file: bodies do not fit a command line."""
    words = load.command(Load("own", 4, 0.5), ONE, 8080, tmp_path)
    assert words[1:3] == ["-m", "loadtests.bench.generator"]
    assert words[-4:] == ["--connections", "4", "--seconds", "0.5"]
    plan = json.loads(Path(words[3]).read_text())
    assert plan["url"] == "http://127.0.0.1:8080/predict"
    assert Path(plan["bodies"][0]).read_bytes() == b"{}"


def closing(**changes: float) -> str:
    told = {"requests": 100, "seconds": 2.0, "p50_us": 10, "p99_us": 20, "refused": 0, "broken": 0, **changes}
    return f"Running 2s test\n{load.MARK}{json.dumps(told)}\n"


def test_the_closing_line_is_read() -> None:
    """Whatever else the tool prints."""
    outcome = load.read_outcome(closing())
    assert outcome.requests_per_second == 50
    assert (outcome.p50_us, outcome.p99_us) == (10, 20)


@pytest.mark.parametrize("printed", ["", closing(refused=1), closing(broken=2), closing(requests=0)])
def test_a_load_with_errors_is_no_measure(printed: str) -> None:
    """Errors are often faster than answers."""
    with pytest.raises(LoadFailed):
        load.read_outcome(printed)


def test_without_wrk_the_own_generator_is_used_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked for by name, its absence is an error that says how to get it."""
    monkeypatch.setattr(shutil, "which", lambda _: None)
    tool, said = load.choose_tool("auto")
    assert tool == "own"
    assert said is not None
    assert "apt-get install wrk" in said
    with pytest.raises(LoadFailed, match="apt-get install wrk"):
        load.choose_tool("wrk")
    assert load.choose_tool("own") == ("own", None)


def test_an_environment_is_made_once_and_a_failure_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Installing takes minutes: it must not happen again, and a half-made environment must not be used."""
    ran: list[list[str]] = []
    why: list[str | None] = ["no matching distribution", None]

    def install(commands: list[list[str]], folder: Path) -> str | None:
        ran.extend(commands)
        return why.pop(0)

    monkeypatch.setattr(environments, "_run", install)
    assert environments.prepare("litserve", tmp_path) == Missing("could not be installed: no matching distribution")
    assert isinstance(environments.prepare("litserve", tmp_path), Ready)
    assert len(ran) == 4
    again = environments.prepare("litserve", tmp_path)
    assert again == Ready(str(tmp_path / "litserve" / "bin" / "python"), tmp_path / "litserve")
    assert len(ran) == 4
    assert ran[1][-3:] == list(environments.PYTHON["litserve"])


def test_a_peer_without_its_program_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Node is not a Python package."""
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert environments.prepare("node", tmp_path) == Missing("node is not installed")
