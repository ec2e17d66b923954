"""A closed-loop load on one address, by wrk or by the generator beside this file, and what it says at its end.

Both get the same request and print the same closing line, so nothing else knows which of them ran. wrk formats a
single request once, in C; with several bodies it takes them in turn.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from loadtests.bench import machine

Tool = Literal["wrk", "own"]
MARK = "BENCH "
_GRACE_SECONDS = 30.0
WRK_MISSING = "wrk is not installed (Debian, Ubuntu: apt-get install wrk): the bench uses its own, slower generator."


class LoadFailed(Exception):
    """The load tool did not end well, or answers were not 200."""


@dataclass(frozen=True)
class Request:
    """What is sent, and how the answer is to be read (see answers.py). bodies: taken in turn."""

    path: str
    bodies: tuple[bytes, ...]
    protocol: str
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})


@dataclass(frozen=True)
class Load:
    """How hard and how long."""

    tool: Tool
    connections: int
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """Answers and latencies of one load, microseconds."""

    requests: int
    seconds: float
    p50_us: float
    p99_us: float

    @property
    def requests_per_second(self) -> float:
        """The rate over the whole load."""
        return self.requests / self.seconds


def choose_tool(asked: str) -> tuple[Tool, str | None]:
    """The load tool, and what to say about it. asked: auto, wrk or own. Raises LoadFailed for a missing wrk."""
    if asked == "own":
        return "own", None
    if shutil.which("wrk"):
        return "wrk", None
    if asked == "wrk":
        raise LoadFailed("wrk is not installed (Debian, Ubuntu: apt-get install wrk), or leave --load-tool out")
    return "own", WRK_MISSING


def command(load: Load, request: Request, port: int, folder: Path) -> list[str]:
    """The command line of the load tool; writes the request's bodies, and wrk's script, into `folder`."""
    url = f"http://127.0.0.1:{port}{request.path}"
    files = [folder / f"body-{number}" for number in range(len(request.bodies))]
    for file, body in zip(files, request.bodies, strict=True):
        file.write_bytes(body)
    if load.tool == "wrk":
        script = folder / "request.lua"
        script.write_text(lua(request.headers, [str(file) for file in files]))
        # wrk stops when its duration is over, and takes whole seconds only.
        words = ["-t1", f"-c{load.connections}", f"-d{max(1, round(load.seconds))}s", "--latency"]
        return ["wrk", *words, "-s", str(script), url]
    plan = {"url": url, "headers": request.headers, "bodies": [str(file) for file in files]}
    (folder / "plan.json").write_text(json.dumps(plan))
    where = ["--connections", str(load.connections), "--seconds", str(load.seconds)]
    return [sys.executable, "-m", "loadtests.bench.generator", str(folder / "plan.json"), *where]


def run(load: Load, request: Request, port: int, folder: Path, core: int) -> Outcome:
    """Load the address, the load tool pinned to `core`. Raises LoadFailed."""
    words = command(load, request, port, folder)
    try:
        with machine.pinned(core):
            done = subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=load.seconds + _GRACE_SECONDS,
                check=False,
            )
    except subprocess.TimeoutExpired as error:
        raise LoadFailed("the load tool did not end") from error
    return read_outcome(done.stdout + done.stderr)


# Files are closed at once: wrk's event loop has room for few descriptors beside its connections.
_CONTENT = """
local function content(name)
  local file = assert(io.open(name, "rb"))
  local text = file:read("*a")
  file:close()
  return text
end
"""

_DONE = """
function done(summary, latency, _)
  local errors = summary.errors
  io.write(string.format('\\nBENCH {"requests": %.0f, "seconds": %.6f, "p50_us": %.0f, "p99_us": %.0f, ' ..
    '"refused": %.0f, "broken": %.0f}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
"""

_TURNS = """
local formatted, turn = {}, 0
function init(_)
  for number = 1, #bodies do formatted[number] = wrk.format("POST", nil, wrk.headers, bodies[number]) end
end
function request()
  turn = turn % #formatted + 1
  return formatted[turn]
end
"""


def lua(headers: dict[str, str], files: Sequence[str]) -> str:
    """wrk's script: the request, and a closing line that `read_outcome` reads."""
    lines = ['wrk.method = "POST"']
    lines += [f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in headers.items()]
    lines.append(_CONTENT)
    if len(files) == 1:
        return "\n".join([*lines, f"wrk.body = content({json.dumps(files[0])})", _DONE])
    names = ", ".join(f"content({json.dumps(name)})" for name in files)
    return "\n".join([*lines, f"local bodies = {{{names}}}", _TURNS, _DONE])


def read_outcome(printed: str) -> Outcome:
    """The closing line of either tool. Raises LoadFailed when there is none, or not every answer was 200."""
    lines = [line for line in printed.splitlines() if line.startswith(MARK)]
    if not lines:
        raise LoadFailed(f"the load tool said no result: {printed.strip()[-500:]}")
    told = json.loads(lines[-1].removeprefix(MARK))
    if told["refused"] or told["broken"]:
        raise LoadFailed(f"{told['refused']} answers were errors and {told['broken']} connections broke under load")
    if not told["requests"]:
        raise LoadFailed("not one request was answered")
    return Outcome(told["requests"], told["seconds"], told["p50_us"], told["p99_us"])
