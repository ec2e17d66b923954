"""Several people edit one route at once: whoever read an older revision is told so, and no edit is lost.

Each edit counts the route's salt up by one, so the salt at the end says how many edits there are, and how many were
acknowledged must be the same number.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from pathlib import Path

from gateway.client import AsyncClient, Refused, model_path, route_call
from loadtests.rollouts import models
from loadtests.rollouts.stage import Gateway, running
from loadtests.scenarios.finding import Finding

_MODEL = "edited"
WRITERS = 4


async def run(folder: Path, seed: int, edits: int) -> list[Finding]:
    """So many edits by each writer, tried again until they are in."""
    async with running(folder, {}) as gateway:
        await gateway.serve(_MODEL, models.numbered(seed + 1))
        await _write(gateway, gateway.admin, Counter(), first=True)
        statuses: Counter[int] = Counter()
        revisions: list[str] = []
        began = time.monotonic()
        await asyncio.gather(*(_edit(gateway, edits, statuses, revisions) for _ in range(WRITERS)))
        lasted = time.monotonic() - began
        route = await gateway.admin.get(model_path(_MODEL, "/route"))
    return findings(WRITERS * edits, int(route["salt"]), statuses, revisions, lasted)


def findings(wanted: int, salt: int, statuses: Counter[int], revisions: list[str], seconds: float) -> list[Finding]:
    """The bars. salt: of the route at the end. revisions: what each acknowledged edit was told. Pure."""
    won = statuses[200]
    other = {status: count for status, count in statuses.items() if status not in {200, 412}}
    told = ", ".join(f"{count} x {status}" for status, count in other.items())
    rate = f"{won / seconds:.0f} a second"
    is_kept = won == wanted == salt and len(set(revisions)) == won
    return [
        Finding(f"edits of {WRITERS} writers in the route", f"{salt:,}", f"{wanted:,}", is_kept, rate),
        Finding("losers told 412", f"{statuses[412]:,}", "all", not other, told),
    ]


async def _edit(gateway: Gateway, edits: int, statuses: Counter[int], revisions: list[str]) -> None:
    address, token = f"http://{gateway.server.admin}", gateway.server.token
    async with AsyncClient(address, token=token, timeout_seconds=60.0) as client:
        for _ in range(edits):
            while (revision := await _write(gateway, client, statuses)) is None:
                pass
            revisions.append(revision)


async def _write(gateway: Gateway, client: AsyncClient, statuses: Counter[int], first: bool = False) -> str | None:
    """Read the route and write it with the salt counted up; the new revision, None when another was faster."""
    route, etag, _ = await client.tagged(model_path(_MODEL, "/route"))
    salt = 0 if first else int(route["salt"]) + 1
    try:
        told = await client.send(route_call(_MODEL, {**route, "salt": str(salt)}, etag, "edit"))
    except Refused as refused:
        statuses[refused.status] += 1
        return None
    statuses[200] += 1
    return str(told["revision"])
