"""`gateway rollout replay`: over a real data directory after a real controller run, and over the admin API."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest
from msgspec.structs import replace

from gateway.app.build import Stores, open_stores
from gateway.clock import SystemClock
from gateway.documents.policy import Policy
from gateway.documents.route import read_route
from gateway.documents.store import ABSENT, policy_name, route_name
from gateway.journal.journal import START
from gateway.journal.record import Decision, Prediction
from gateway.names import BUCKETS, ModelName, Outcome, Reason, Role
from gateway.rollout.change import RouteWriter
from gateway.rollout.controller import RolloutController
from gateway.rollout.operation import Operations
from gateway.settings import Settings
from tests.cli.conftest import Command, Running
from tests.cli.test_directory_commands import write_model

MODEL = ModelName("m")
_numbers = count(1)


@contextmanager
def opened(data: Path) -> Iterator[Stores]:
    """The stores of a data directory for one process's life."""
    stores = open_stores(Settings(data=data))
    try:
        yield stores
    finally:
        stores.close()


async def act(data: Path, do: Callable[[Operations], object] | None = None) -> None:
    """A control process: something a person asks for, then the controller until nothing is left to do at once."""
    with opened(data) as stores:
        clock, tee = SystemClock(), stores.open_tee("control", "control")
        writer = RouteWriter(stores.config, clock)
        operations = Operations(stores.config, stores.registry, stores.traffic, tee, writer, clock, lambda: "salt")
        if do is not None:
            await do(operations)  # type: ignore[misc]
        controller = RolloutController(
            stores.config, stores.registry, stores.traffic, stores.control, operations, clock
        )
        while await controller.reconcile(MODEL) == 0:
            pass
        tee.close()


async def serve(data: Path, answers: int, failed: bool) -> None:
    """A serving process: so many answers of both versions, each with an epoch of its own in the journal."""
    with opened(data) as stores:
        route = read_route((await stores.config.get(route_name(MODEL))).body)
        revision = (await stores.config.get(route_name(MODEL))).revision
        tee = stores.open_tee("traffic", "g")
        for _ in range(answers):
            for version, role in ((1, Role.CHAMPION), (2, Role.CANARY)):
                is_failed = failed and version == 2
                record = Prediction(
                    id=f"r{next(_numbers)}",
                    model=MODEL,
                    version=version,
                    role=role,
                    reason=Reason.WEIGHT,
                    revision=revision,
                    outcome=Outcome.ERROR if is_failed else Outcome.OK,
                    latency_us=100,
                    rows=1,
                    contract=version,
                    inputs=[[0.0, 0.0]],
                    outputs={} if is_failed else {"score": [[1.0]]},
                    split=tuple((c.version, c.buckets * BUCKETS // BUCKETS) for c in route.canaries),
                )
                tee.offer(record)
        tee.close()


@pytest.fixture
def data(command: Command, tmp_path: Path) -> Path:
    """Version 2 of a model went through a step at 5 % and failed in the next."""
    (tmp_path / "s.csv").write_text("a,b\n1,2\n")
    for version in (1, 2):
        file = write_model(tmp_path / f"{version}.onnx", version)
        assert command("publish", "m", str(file), "--reference", "s.csv", "--data", "d").code == 0
    directory = tmp_path / "d"
    steps = [{"canary": 5, "until": {"requests": 20}}, {"canary": 50}, {"promote": "auto"}]
    policy = Policy.model_validate({"model": MODEL, "rollout": {"steps": steps}})

    async def introduce(operations: Operations) -> None:
        await operations.introduce(MODEL, 1, "first version", "test")

    async def start(operations: Operations) -> None:
        await operations.start_rollout(MODEL, 2, "steps", "a test", "ada")

    async def run() -> None:
        with opened(directory) as stores:
            await stores.config.put(policy_name(MODEL), policy.encode(), ABSENT)
        await act(directory, introduce)
        await act(directory, start)
        await serve(directory, 25, failed=False)
        await act(directory)
        await serve(directory, 30, failed=True)
        await act(directory)

    asyncio.run(run())
    return directory


def tamper(data: Path) -> None:
    """A decision of another content than was decided, where the last one was: the journal's files are rewritten."""

    async def rewrite() -> None:
        with opened(data) as stores:
            decisions = [e.record for e in (await stores.control.read(START, 100)).entries]
        for file in (data / "journal" / "control").rglob("*.*"):
            file.unlink()
        with opened(data) as stores:
            tee = stores.open_tee("control", "control")
            last = decisions.pop()
            assert isinstance(last, Decision)
            values = {**last.evidence["values"], "errors": 1e6}
            for decision in (*decisions, replace(last, evidence={**last.evidence, "values": values})):
                tee.offer(decision)
            tee.close()

    asyncio.run(rewrite())


def test_a_rollout_on_disk_is_recomputed_equal(command: Command, data: Path) -> None:
    """Several processes wrote it, each read it from where it liked."""
    done = command("rollout", "replay", "m", "--data", str(data))
    assert done.code == 0, done.out + done.err
    assert "1 as recorded" in done.out
    assert "DIFFERS" not in done.out
    content = command("rollout", "replay", "m", "--rollout", "1", "--data", str(data), "--json").json
    assert [one["action"] for one in content["decisions"]] == ["start", "canary", "canary", "roll_back"]
    assert content["states"] == {"equal": 3, "differs": 0, "not_replayable": 0, "as_recorded": 1}
    last = content["decisions"][-1]
    assert last["recorded"] == last["recomputed"]
    assert last["recomputed"]["counts"]["trial"]["requests"] == 55


def test_a_record_that_was_changed_on_disk_fails_and_is_named(command: Command, data: Path) -> None:
    tamper(data)
    done = command("rollout", "replay", "m", "--data", str(data))
    assert done.code == 1
    assert "DIFFERS" in done.out
    assert "values.errors: recorded 1000000.0, recomputed" in done.out
    [changed] = [
        one
        for one in command("rollout", "replay", "m", "--data", str(data), "--json").json["decisions"]
        if one["differences"]
    ]
    assert (changed["action"], changed["state"]) == ("roll_back", "differs")


def test_what_can_not_be_replayed_is_one_clear_line(command: Command, data: Path) -> None:
    for words in (("m", "--rollout", "9"), ("gas",)):
        done = command("rollout", "replay", *words, "--data", str(data))
        assert (done.code, len(done.err.splitlines())) == (1, 1)
        assert "the journal holds no decision" in done.err
    assert command("rollout", "replay", "m", "--data", "nowhere").code == 1
    assert command("rollout", "replay", "m", "--rollout", "0", "--data", str(data)).code == 2


def test_a_running_gateway_replays_over_the_admin_api(command: Command, running: Running) -> None:
    options = running.options
    assert command("rollout", "start", "electricity", "2", "--reason", "new", *options).code == 0
    content = command("rollout", "replay", "electricity", "--json", *options).json
    assert (content["decisions"][0]["action"], content["decisions"][0]["state"]) == ("start", "as_recorded")
    assert command("rollout", "roll-back", "electricity", *options).code == 0
    done = command("rollout", "replay", "electricity", "--rollout", str(content["rollout"]), *options)
    assert (done.code, "roll_back" in done.out) == (0, True)
    done = command("rollout", "replay", "electricity", "--rollout", "99", *options)
    assert (done.code, "rollout 99" in done.err) == (1, True)
    assert "there is no model 'gas'" in command("rollout", "replay", "gas", *options).err
