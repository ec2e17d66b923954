"""`python -m loadtests.monitor`, `make monitor`: a steady load with labels, and how far the monitor is behind."""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from gateway.app.build import open_stores
from gateway.client import AsyncClient, Call, ClientError, model_path
from gateway.clock import SystemClock
from gateway.demo import server
from gateway.demo.server import Server
from gateway.errors import GatewayError
from gateway.settings import Settings
from loadtests.bench.table import aligned
from loadtests.monitor import lag, material
from loadtests.monitor.lag import Look
from loadtests.monitor.sender import Sender, Sent

_POLICY = f"model: {material.MODEL}\n"
_WARM_SECONDS = 3.0
_PATIENCE_SECONDS = 60.0


@dataclass(frozen=True)
class Measured:
    """What came of a run. rate: the smallest sampling rate that was told. drained: seconds to the last label."""

    looks: list[Look]
    sent: Sent
    seconds: float
    rate: float
    drained: float
    joined: int


def main(words: Sequence[str]) -> int:
    """The exit code: 0 the bar holds, 1 it was missed or could not be measured, 130 interrupted."""
    parser = argparse.ArgumentParser(prog="make monitor ARGS=...", description="Does the monitor keep up with a load?")
    add = parser.add_argument
    add("--rate", type=float, default=5_000.0, help="predicted rows a second, each with a label [5,000]")
    add("--seconds", type=float, default=60.0, help="how long [60]")
    add("--rows", type=int, default=10, help="rows in a request [10]; with 1 the server takes most of a core")
    add("--delay", type=float, default=1.0, help="seconds from a prediction to its label [1]")
    add("--seed", type=int, default=1, help="of model and rows [1]")
    asked = parser.parse_args(words)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is ended then too
    folder = Path(tempfile.mkdtemp(prefix="gateway-monitor-"))
    try:
        measured = asyncio.run(_measure(folder, asked))
    except (ClientError, GatewayError, OSError, EOFError, TimeoutError) as error:
        print(f"not measured: {type(error).__name__}: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return _report(measured, asked)


async def _measure(folder: Path, asked: argparse.Namespace) -> Measured:
    for name in ("router_config", "models", "data"):
        (folder / name).mkdir()
    (folder / "router_config" / f"{material.MODEL}.yaml").write_text(_POLICY)
    async with (
        server.running(folder / "data", folder, SystemClock(), workers=1) as started,
        AsyncClient(f"http://{started.admin}", token=started.token, timeout_seconds=60.0) as admin,
    ):
        await _publish(admin, asked.seed)
        port = started.listen.port
        bodies = material.bodies(asked.rows, asked.seed + 1)
        warm = Sender(port, bodies, asked.rate / 5, asked.delay)
        await _until_served(port)
        await warm.run(_WARM_SECONDS)
        return await _under_load(
            started, admin, Sender(port, bodies, asked.rate, asked.delay), asked.seconds, warm.sent
        )


async def _publish(admin: AsyncClient, seed: int) -> None:
    files = {
        "model": ("model.onnx", material.model(seed)),
        "manifest": ("manifest.json", material.manifest()),
        "reference": ("sample.csv", material.reference(seed)),
    }
    await admin.send(Call("POST", model_path(material.MODEL, "/versions"), files=files))


async def _until_served(port: int) -> None:
    async with asyncio.timeout(_PATIENCE_SECONDS), AsyncClient(f"http://127.0.0.1:{port}") as client:
        while not (await client.get("/models"))["models"]:  # noqa: ASYNC110 - another process's progress
            await asyncio.sleep(0.05)


async def _under_load(started: Server, admin: AsyncClient, sender: Sender, seconds: float, before: Sent) -> Measured:
    stores, stop = open_stores(Settings(data=started.data)), asyncio.Event()
    gc.freeze()
    try:
        looking = asyncio.create_task(lag.watch(stores, _control_process(started), stop))
        rates = asyncio.create_task(_rates(admin, stop))
        begun = SystemClock().monotonic()
        await sender.run(seconds)
        lasted = SystemClock().monotonic() - begun
        labels = before.labels + sender.sent.labels
        joined = await _joined(admin, labels)
        drained = SystemClock().monotonic() - begun - lasted
        stop.set()
        return Measured(await looking, sender.sent, lasted, min(await rates), drained, joined - before.labels)
    finally:
        stores.close()


def _control_process(started: Server) -> psutil.Process:
    for child in psutil.Process(started.process.pid).children(recursive=True):
        with suppress(psutil.Error):
            if any("gateway.app.control_process" in word for word in child.cmdline()):
                return child
    raise GatewayError("the gateway has no control process")


async def _rates(admin: AsyncClient, stop: asyncio.Event) -> list[float]:
    """What the monitor tells about its sampling, once a second."""
    found = [1.0]
    while not stop.is_set():
        found.append((await _monitoring(admin)).get("sampling_rate", 1.0))
        await asyncio.sleep(1.0)
    return found


async def _joined(admin: AsyncClient, labels: int) -> int:
    """How many labels the monitor has joined, once it has all of them or the patience is over."""
    joined = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while (joined := await _joined_now(admin)) < labels:  # noqa: ASYNC110 - another process's progress
                await asyncio.sleep(0.1)
    return joined


async def _joined_now(admin: AsyncClient) -> int:
    return int((await _monitoring(admin))["labels"].get("joined", 0))


async def _monitoring(admin: AsyncClient) -> dict[str, Any]:
    found: dict[str, Any] = await admin.get(model_path(material.MODEL, "/monitoring"))
    return found


def _report(measured: Measured, asked: argparse.Namespace) -> int:
    seconds = lag.by_second(measured.looks)
    rows = [
        ["second", "largest lag s", "CPU s"],
        *([str(at), f"{most:.2f}", f"{cpu:.2f}"] for at, most, cpu in seconds),
    ]
    print("\n".join(aligned(rows, left=())))
    lags = [look.lag for look in measured.looks]
    sent, cpu = measured.sent, measured.looks[-1].cpu - measured.looks[0].cpu
    largest = max(lags)
    is_right = lag.holds(largest, measured.rate) and measured.joined == sent.labels and not sent.failed
    print(
        json.dumps(
            {
                "predictions": sent.predictions,
                "predictions_a_second": round(sent.predictions / measured.seconds),
                "labels": sent.labels,
                "labels_joined": measured.joined,
                "failed_requests": sent.failed,
                "late_requests": sent.late,
                "lag_p99_seconds": round(lag.percentile(lags, 0.99), 3),
                "lag_max_seconds": round(largest, 3),
                "sampling_rate": measured.rate,
                "drained_seconds": round(measured.drained, 2),
                "monitor_us_a_prediction": round(cpu / max(1, sent.predictions) * 1e6, 1),
                "rows_a_request": asked.rows,
                "holds": is_right,
            },
            indent=2,
        )
    )
    if sent.text:
        print(f"first failure: {sent.text}")
    bar = f"at most {lag.BAR_SECONDS:g} s behind, or the sampling rate is told"
    print(f"{bar}: {'holds' if is_right else 'MISSED'} ({largest:.2f} s, rate {measured.rate:g})")
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
