"""`make loadtest`: a gateway with two versions of electricity on loopback, locust on it for 20 seconds, all cleaned up.

Ends with locust's code: not 0 when a request failed. Arguments go on to locust and win over the ones given here:
`make loadtest ARGS="-u 50 -t 60s --tags single"`.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from gateway.client import AsyncClient, ClientError, weights_call
from gateway.clock import Clock, SystemClock
from gateway.demo.server import Server, fresh_directory, project, run_command, running
from gateway.errors import GatewayError

MODEL = "electricity"
FIRST_ROWS, SECOND_ROWS = 2_000, 4_000
CANARY_PERCENT = 10
LOAD = ("--headless", "-u", "16", "-r", "100", "-t", "20s", "--only-summary")


async def load_test(arguments: Sequence[str], clock: Clock) -> int:
    """Start, publish twice, load, stop; locust's exit code."""
    folder = project(MODEL)
    data = fresh_directory(None)
    policies = data / "no_policies"
    policies.mkdir()
    try:
        # Without policies every default holds: nothing is rolled out or trained while the weights are measured.
        async with running(data, folder, clock, config=policies) as server:
            print(f"Gateway http://{server.listen}  admin http://{server.admin}")
            first = await _publish(server, folder, FIRST_ROWS)
            second = await _publish(server, folder, SECOND_ROWS)
            async with AsyncClient(f"http://{server.admin}", token=server.token) as admin:
                await admin.send(weights_call(MODEL, {second.rpartition("@")[2]: CANARY_PERCENT}, "load test"))
            print(f"{first} is champion, {second} canary at {CANARY_PERCENT} %", flush=True)
            return await _locust(server, folder, arguments)
    finally:
        shutil.rmtree(data, ignore_errors=True)


async def _publish(server: Server, folder: Path, rows: int) -> str:
    """Train a version on the first rows of the stream and publish it; its name."""
    csv = folder / "models" / "data" / f"{MODEL}.csv.gz"
    where = ("--url", f"http://{server.admin}", "--token", server.token)
    out = await run_command(["train", MODEL, "--csv", str(csv), "--rows", str(rows), *where], folder)
    return out.split(maxsplit=1)[0]


async def _locust(server: Server, folder: Path, arguments: Sequence[str]) -> int:
    where = ("-f", "loadtests/locustfile.py", "--host", f"http://{server.listen}")
    environment = {**os.environ, "GATEWAY_ADMIN": f"http://{server.admin}", "GATEWAY_TOKEN": server.token}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "locust", *where, *LOAD, *arguments), cwd=folder, env=environment
    )
    try:
        return await process.wait()
    except asyncio.CancelledError:
        if process.returncode is None:
            process.terminate()
            await process.wait()
        raise


async def main(arguments: Sequence[str]) -> int:
    """The exit code: locust's, 1 when the gateway did not start, 130 when interrupted."""
    test = asyncio.create_task(load_test(arguments, SystemClock()))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, test.cancel)
    try:
        return await test
    except asyncio.CancelledError:
        return 130
    except (GatewayError, ClientError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:])))
