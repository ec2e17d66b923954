"""Everything that can be measured, as a table: what is started, what it is sent, how its answer is read.

A program is a list of words in which {port}, {admin}, {data} and {model} are filled in at each start. Pure: nothing is
started here.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from loadtests.bench import environments, material
from loadtests.bench.load import Request
from loadtests.bench.material import MODELS, Material
from loadtests.bench.sample import Case

HERE = Path(__file__).parent
Route = Literal["canary", "alone", "shadow", "models"]
"""What the gateway serves: a 5 % canary; a champion alone; a shadow at 100 %; the canary's model and 99 more."""


@dataclass(frozen=True)
class Subject:
    """One server. requests: by case, the first one is asked until it answers. route: of a gateway; None for others.

    environment: the peer's own packages, a key of environments.py. is_scraped: `/metrics` is read each second.
    """

    key: str
    title: str
    program: tuple[str, ...]
    requests: dict[Case, Request]
    route: Route | None = None
    environment: str | None = None
    is_scraped: bool = False
    variables: dict[str, str] = field(default_factory=dict)


def names(models: int) -> list[str]:
    """Names of so many models; the first is the one that all others are compared on."""
    return [material.MODEL, *(f"{material.MODEL}-{number}" for number in range(1, models))]


def floors(made: Material) -> list[Subject]:
    """The least a server can do, run with the project's own Python."""
    one: dict[Case, Request] = {"one": material.predict_request(made.one, protocol="echo")}
    served = _plain(made) | _record(made)
    folder = HERE / "floors"
    return [
        Subject("floor-asgi", "bare uvicorn, raw ASGI echo", _own(folder / "raw_asgi.py"), one),
        Subject("floor-starlette", "bare uvicorn + Starlette echo", _own(folder / "starlette_echo.py"), one),
        Subject("starlette-by-hand", "Starlette + msgspec + onnxruntime by hand", _own(folder / "by_hand.py"), served),
    ]


def peers(made: Material) -> list[Subject]:
    """The peers, each in its own environment."""
    plain = _plain(made)
    v2: dict[Case, Request] = {
        "one": material.v2_request(made.one),
        "rows64": material.v2_request(made.batch),
        "binary64": material.v2_binary_request(made.batch),
    }
    both: dict[Case, Request] = {
        "one": material.instances_request(made.one),
        "v2": material.v2_request(made.one),
        "rows64": material.instances_request(made.batch),
        "binary64": material.v2_binary_request(made.batch),
    }
    return [
        _peer("fastapi", "FastAPI + onnxruntime, async", "fastapi_async.py", plain | _record(made)),
        _peer("node", "Node http + onnxruntime-node", "node_server.js", plain),
        _peer("mlserver", "MLServer, onnxruntime runtime", "mlserver_runtime.py", v2),
        _peer("kserve", "KServe model server", "kserve_server.py", both),
        _peer("litserve", "LitServe", "litserve_server.py", plain),
        _peer("bentoml", "BentoML", "bentoml_service.py", plain),
        _peer("ray", "Ray Serve", "ray_serve.py", plain),
    ]


def gateways(made: Material, has_edge: bool) -> list[Subject]:
    """The gateway with full features, in each of its edges. Bars are for the first: its serving process, on one core.

    has_edge: whether `gateway serve` knows --edge; without it there is one edge, the ASGI one.
    """
    requests: dict[Case, Request] = {
        "one": material.predict_request(made.one),
        "record": material.record_request(made.one),
        "v2": material.v2_request(made.one),
        "rows64": material.predict_request(made.batch),
        "binary64": material.v2_binary_request(made.batch),
    }
    fast = ("--edge", "fast") if has_edge else ()
    name = "gateway, fast edge" if has_edge else "gateway"
    found = [Subject("gateway", name, _gateway(*_SERVING, *fast), requests, "canary")]
    if has_edge:
        words = _gateway(*_SERVING, "--edge", "asgi")
        found.append(Subject("gateway-asgi", "gateway, ASGI edge", words, requests, "canary"))
    one: dict[Case, Request] = {"one": requests["one"]}
    title = f"{name}, control process on the same core"
    found.append(Subject("gateway-control", title, _gateway(*fast), one, "canary"))
    return found


def extras(made: Material, has_edge: bool) -> list[Subject]:
    """The gateway in other states, each beside the state that it is compared with."""
    fast = ("--edge", "fast") if has_edge else ()
    serving, whole = _gateway(*_SERVING, *fast), _gateway(*fast)
    one: dict[Case, Request] = {"one": material.predict_request(made.one)}
    turns: dict[Case, Request] = {"one": material.predict_request(made.one, (material.MODEL,) * MODELS)}
    many: dict[Case, Request] = {"one": material.predict_request(made.one, names(MODELS))}
    two = (*serving, "--workers", "2")
    return [
        Subject("gateway-alone", "gateway, champion alone", serving, one, "alone"),
        Subject("gateway-shadow", "gateway, shadow at 100 %", serving, one, "shadow"),
        Subject("gateway-workers", "gateway, two workers on one core", two, one, "canary"),
        Subject("gateway-rotating", "gateway, 1 model, 100 bodies in turn", serving, turns, "alone"),
        Subject("gateway-100", "gateway, 100 models in turn", serving, many, "models"),
        Subject("gateway-100-control", "gateway, 100 models, control beside", whole, many, "models"),
        Subject("gateway-100-scrape", "gateway, 100 models, scraped each second", whole, many, "models", None, True),
    ]


QUICK = ("gateway", "gateway-asgi", "floor-asgi", "floor-starlette", "starlette-by-hand", "fastapi")
_SERVING = ("--roles", "serving")


def choose(every: Sequence[Subject], only: Sequence[str], without: Sequence[str]) -> tuple[list[Subject], list[str]]:
    """The subjects asked for, in the table's order, and the names that mean nothing."""
    keys = {subject.key for subject in every}
    unknown = [name for name in (*only, *without) if name not in keys]
    return [one for one in every if (not only or one.key in only) and one.key not in without], unknown


def fill(program: Sequence[str], values: dict[str, str]) -> list[str]:
    """The command line with its places filled in. A place without a value raises KeyError."""
    return [word.format_map(values) for word in program]


def _plain(made: Material) -> dict[Case, Request]:
    """The gateway's own bytes, for servers that answer with bare probabilities."""
    return {
        "one": material.predict_request(made.one, protocol="plain"),
        "rows64": material.predict_request(made.batch, protocol="plain"),
    }


def _record(made: Material) -> dict[Case, Request]:
    """The same bytes again; a server that declares each feature does so at a path of its own."""
    return {"record": material.record_request(made.one, "/record", "plain")}


def _own(file: Path) -> tuple[str, ...]:
    return (sys.executable, str(file), "{model}", "{port}")


def _peer(key: str, title: str, file: str, requests: dict[Case, Request]) -> Subject:
    node = {"NODE_PATH": "{environment}/node_modules"} if key in environments.NODE else {}
    program = ("{program}", str(HERE / "peers" / file), "{model}", "{port}")
    return Subject(key, title, program, requests, environment=key, variables=node)


def _gateway(*options: str) -> tuple[str, ...]:
    where = ("--data", "{data}", "--config", "{config}", "--models", "{config}", "--log-level", "warning")
    listen = ("--listen", "127.0.0.1:{port}", "--admin-listen", "127.0.0.1:{admin}")
    return (sys.executable, "-m", "gateway.cli", "serve", *where, *listen, *options)
