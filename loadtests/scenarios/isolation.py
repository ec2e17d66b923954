"""Bad neighbours: a canary or shadow that is slow, hangs, eats memory or crashes, and what the champion's callers feel.

Phases with the champion alone and with the neighbour take turns under one load. Callers send keys, so a request is the
champion's by its key, whatever became of it; which keys those are is asked before the neighbour is made to misbehave.
"""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from statistics import median
from typing import Any

import psutil

from gateway.client import Client, ClientError
from loadtests.bench.load import Request
from loadtests.bench.material import COLUMNS as FEATURES
from loadtests.bench.material import MODEL
from loadtests.scenarios import graphs, stage
from loadtests.scenarios.answered import Answered, Phase, p99_pairs, told_pairs
from loadtests.scenarios.finding import Finding, none_failed, not_measured
from loadtests.scenarios.plan import Burst, Plan, Stream
from loadtests.scenarios.stage import Gateway, ScenarioFailed, Stage

MODEL_MICROSECONDS = 200.0
CANARY_PERCENT = 10
_KEYS = 200
_ALLOWED_RATIO, _ALLOWED_MS = 0.1, 1.0
_LONGEST_LOAD_SECONDS = 240.0
_CONNECTIONS = 400
_CHAMPIONS = 0
"""The number of their stream."""
_SETTLE_SECONDS = 0.7
_CRASH_EVERY_SECONDS = 0.1
_VERSIONS = {"champion": 1, "slow": 2, "hanging": 3, "hungry": 4, "crashing": 5}


@dataclass(frozen=True)
class Trouble:
    """What stands beside the champion. is_shadow: it gets a copy of everything; else it is a canary."""

    what: str
    version: int
    is_shadow: bool
    crashes: bool = False

    def route(self) -> dict[str, Any]:
        """The champion and the neighbour."""
        if self.is_shadow:
            return {"champion": 1, "shadows": [{"version": self.version, "share": 100}]}
        return {"champion": 1, "canaries": [{"version": self.version, "weight": CANARY_PERCENT}]}


TROUBLES = (
    Trouble("a shadow 10x slower", _VERSIONS["slow"], True),
    Trouble("a canary 10x slower", _VERSIONS["slow"], False),
    Trouble("a canary that hangs", _VERSIONS["hanging"], False),
    Trouble("a shadow that eats memory", _VERSIONS["hungry"], True),
    Trouble("a canary that crashes over and over", _VERSIONS["crashing"], False, True),
)
QUICK = TROUBLES[:1] + TROUBLES[2:]


def run(on: Stage) -> list[Finding]:
    """3 phases of each kind for each trouble; quick: 1."""
    troubles, phases, seconds = (QUICK, 1, 1.0) if on.quick else (TROUBLES, 3, 2.5)
    with stage.whole(on, "isolation") as gateway:
        for model in _models():
            gateway.publish(model)
        rate = stage.capacity(on, gateway.port, on.lasting(3.0, 1.0)) / 2
        found = []
        for trouble in troubles:
            plan = _plan(gateway, rate, _champions_keys(gateway, trouble))
            quiet, loaded = [], []
            with stage.loading(on, plan) as load:
                for _ in range(phases):
                    stage.lasting(_SETTLE_SECONDS)
                    quiet.append(stage.lasting(seconds))
                    loaded.append(_beside(gateway, trouble, seconds))
                answered = load.stop()
            found += findings(trouble, answered.of_stream(_CHAMPIONS), quiet, loaded, f"{rate:,.0f} requests/s")
    return found


def _models() -> list[bytes]:
    """Champion and neighbours, in the order of their versions."""
    repeats = graphs.repeats_for(MODEL_MICROSECONDS)
    costing = graphs.costing
    return [
        costing(repeats, 1),
        costing(10 * repeats, 2),
        graphs.never_ending(),
        graphs.memory_eating(),
        costing(repeats, 3),
    ]


def _request(first: float) -> Request:
    """One row for each key; its first number tells the hostile models whether to misbehave."""
    row = [first, *[1.0] * (FEATURES - 1)]
    bodies = [{"model": MODEL, "inputs": [row], "key": f"caller-{number}"} for number in range(_KEYS)]
    return Request("/predict", tuple(json.dumps(body).encode() for body in bodies), "predict")


def _plan(gateway: Gateway, rate: float, ours: Sequence[int]) -> Plan:
    """Callers of the champion and of the canary have connections of their own: who hangs takes nobody else's."""
    requests = stage.raw_request(gateway.port, _request(2 * graphs.LIMIT))
    sides = [number in ours for number in range(_KEYS)]
    streams = []
    for side in (True, False):
        sent = tuple(request for request, is_ours in zip(requests, sides, strict=True) if is_ours is side)
        burst = Burst(0.2, _LONGEST_LOAD_SECONDS, rate * len(sent) / _KEYS)
        streams += [Stream(sent, (burst,), _CONNECTIONS)] if sent else []
    return Plan(gateway.port, tuple(streams))


def _champions_keys(gateway: Gateway, trouble: Trouble) -> list[int]:
    """The numbers of the bodies that the champion answers beside this neighbour, which behaves meanwhile."""
    if trouble.is_shadow:
        return list(range(_KEYS))
    gateway.route(trouble.route())
    bodies = _request(0.0).bodies
    with Client(f"http://127.0.0.1:{gateway.port}") as client:
        answers = [client.predict(body["inputs"], model=MODEL, key=body["key"]) for body in map(json.loads, bodies)]
    gateway.route({"champion": 1})
    found = [number for number, answer in enumerate(answers) if answer["version"] == 1]
    if len(found) == _KEYS:
        raise ScenarioFailed(f"{trouble.what}: the canary answered none of {_KEYS} keys")
    return found


def _beside(gateway: Gateway, trouble: Trouble, seconds: float) -> Phase:
    """Put it beside the champion for so long; the phase begins once the route holds."""
    with suppress(ClientError):  # the last phase may have brought it into quarantine
        gateway.release(trouble.version)
    gateway.route(trouble.route())
    with _crashing(gateway, trouble) if trouble.crashes else nullcontext():
        phase = stage.lasting(seconds)
    gateway.route({"champion": 1})
    return phase


@contextmanager
def _crashing(gateway: Gateway, trouble: Trouble) -> Iterator[None]:
    """SIGSEGV for its process whenever there is one, and out of quarantine again. Raises ScenarioFailed without any."""
    over = threading.Event()
    crashes = 0

    def crash() -> None:
        nonlocal crashes
        while not over.wait(_CRASH_EVERY_SECONDS):
            runners = gateway.children("runner_child")
            for process in runners:
                with suppress(psutil.Error):
                    process.send_signal(signal.SIGSEGV)
                    crashes += 1
            if not runners:
                with suppress(ClientError):
                    gateway.release(trouble.version)

    thread = threading.Thread(target=crash)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if not crashes:
        raise ScenarioFailed(f"{trouble.what}: there was no process to crash")


def findings(
    trouble: Trouble, answered: Answered, quiet: Sequence[Phase], loaded: Sequence[Phase], load: str
) -> list[Finding]:
    """The bars of one trouble. answered: of the champion's callers only. Pure."""
    failed = answered.failures
    what, bar = f"{trouble.what}: champion's p99", "<= +10 % or +1 ms"
    none = none_failed(f"{trouble.what}: failed requests of the champion", sum(failed.values()), len(answered), failed)
    if not all(len(answered.due_in(phase).with_status(200)) for phase in (*quiet, *loaded)):
        return [not_measured(what, bar, "a phase passed without an answer of the champion"), none]
    pairs = p99_pairs(answered, quiet, loaded)
    more = median(after - before for before, after in pairs)
    allowed = max(_ALLOWED_MS, _ALLOWED_RATIO * median(before for before, _ in pairs))
    share = median(after / before for before, after in pairs) - 1
    p99 = Finding(
        what,
        f"{more:+.2f} ms ({100 * share:+.0f} %)",
        bar,
        more <= allowed,
        f"{told_pairs(pairs, answered)}; {load}",
    )
    return [p99, none]
