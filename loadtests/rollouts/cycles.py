"""Publish, take in, roll back, again and again under load: nobody fails, and what was rolled back answers no more.

Even cycles give the version a weight and take it away, odd ones make it champion and restore the last one. A roll-back
holds from the moment it is acknowledged: a request that is sent later and answered by that version breaks it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gateway.client import model_path, rollout_verb_call, route_call, weights_call
from gateway.demo.server import run_command
from loadtests.rollouts import models
from loadtests.rollouts.caller import Answered, Callers
from loadtests.rollouts.stage import Gateway, running, until
from loadtests.scenarios.finding import Finding, at_most, none_failed

_MODEL = "cycle"
_RATE = 300.0
_WORKERS = 2
_PERCENT = 50.0
_LONGEST_MS = 1_000.0
_PAGE = 1_000


Named = dict[int, set[int]]
"""The versions that may answer, by the route's revision."""


@dataclass(frozen=True)
class RolledBack:
    """A version that was taken out, when that was acknowledged (monotonic), and how long it took to be."""

    version: int
    acknowledged: float
    took_ms: float


async def run(folder: Path, seed: int, cycles: int, deadline_ms: float = 1_000.0) -> list[Finding]:
    """So many cycles. deadline_ms: of each request; on a machine that may stall, a longer one than users have."""
    policy = f"model: {_MODEL}\ndeadline_ms: {deadline_ms:g}\n"
    async with running(folder, {_MODEL: policy}, _WORKERS) as gateway:
        await gateway.serve(_MODEL, models.numbered(1))
        callers = Callers(gateway.port, _MODEL, models.draw(1_000, seed), _RATE, labelled=False, keep=True)
        named: Named = {}
        await _note(gateway, named)
        began = time.monotonic()
        async with callers.calling() as seen:
            done = [await _cycle(gateway, number, seen.answers, named) for number in range(2, cycles + 2)]
        lasted = time.monotonic() - began
        audit = await _audit(gateway)
    out = await run_command(["journal", "export", "--format", "jsonl", "--data", str(folder / "data")], folder)
    records = [json.loads(line) for line in out.splitlines()]
    reasons = {f"{role or 'no role'} {status}": count for (role, status), count in seen.failed.items()}
    return [
        none_failed(f"{cycles:,} cycles: requests that failed", seen.failures, seen.requests, reasons),
        *findings(seen.answers, done, f"{lasted / cycles:.2f} s a cycle"),
        *history(records, named, routes(audit)),
    ]


async def _cycle(gateway: Gateway, number: int, answers: Sequence[Answered], named: Named) -> RolledBack:
    version = await gateway.publish(_MODEL, models.numbered(number))
    path = model_path(_MODEL, "/route")
    if number % 2 == 0:
        await gateway.admin.send(weights_call(_MODEL, {version: _PERCENT}, "cycle"))
        back = weights_call(_MODEL, {version: 0}, "cycle")
    else:
        route, etag, _ = await gateway.admin.tagged(path)
        wanted = {"champion": version, "previous": route["champion"]}
        await gateway.admin.send(route_call(_MODEL, wanted, etag, "cycle"))
        back = rollout_verb_call(_MODEL, "roll-back", "cycle")

    async def answered() -> bool:
        return any(answer.version == version for answer in answers[-200:])

    await _note(gateway, named)
    await until(answered, f"an answer of version {version}")
    began = time.monotonic()
    await gateway.admin.send(back)
    now = time.monotonic()
    await _note(gateway, named)
    return RolledBack(version, now, (now - began) * 1_000.0)


def findings(answers: Sequence[Answered], done: Sequence[RolledBack], note: str) -> list[Finding]:
    """The bars of the cycles themselves. Pure."""
    ends = {one.version: one.acknowledged for one in done}
    late = [answer for answer in answers if answer.version in ends and answer.sent > ends[answer.version]]
    took = np.array([one.took_ms for one in done])
    middle, high = float(np.percentile(took, 50)), float(np.percentile(took, 99))
    told = f"p50 {middle:.0f} ms, p99 {high:.0f} ms; {note}"
    versions = ", ".join(str(answer.version) for answer in late[:5])
    return [
        Finding("answers of a version after its roll-back", f"{len(late):,}", "0", not late and bool(ends), versions),
        at_most("the slowest acknowledged roll-back", float(took.max()), _LONGEST_MS, " ms", told, 0),
    ]


def routes(audit: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Every route there was, in the order of the audit trail; the changes must join without a gap, or it raises."""
    found: list[dict[str, Any]] = []
    for entry in audit:
        after = json.loads(entry["after"] or "{}")
        if "champion" not in after:  # a policy, a published version
            continue
        if found and json.loads(entry["before"]) != found[-1]:
            raise ValueError(f"audit entry {entry['number']} does not start from the route before it")
        found.append(after)
    return found


def history(records: Sequence[Mapping[str, Any]], named: Named, changes: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """Each journaled answer comes from one version that the route of its own revision names. Pure.

    changes: the routes of the audit trail, which must be as many as there were revisions.
    """
    answers = [record for record in records if record["kind"] == "prediction"]
    wrong = [record for record in answers if record["version"] not in named.get(record["revision"], ())]
    ids = {(record["id"], record.get("row", 0)) for record in answers}
    first = f"{wrong[0]['id']}: version {wrong[0]['version']} at revision {wrong[0]['revision']}" if wrong else ""
    what = "journaled answers that the route of their revision does not explain"
    is_audited = len(changes) == len(named)
    return [
        Finding(what, f"{len(wrong):,}", "0", not wrong and bool(answers), first),
        Finding("journaled answers, each id once", f"{len(ids):,}", f"{len(answers):,}", len(ids) == len(answers)),
        Finding("route changes in the audit trail, joined", f"{len(changes):,}", f"{len(named):,}", is_audited),
    ]


async def _note(gateway: Gateway, named: Named) -> None:
    """Remember which versions may answer under the route's present revision."""
    route, etag, _ = await gateway.admin.tagged(model_path(_MODEL, "/route"))
    named[int(etag.strip('"'))] = {route["champion"], *(canary["version"] for canary in route["canaries"])}


async def _audit(gateway: Gateway) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    after = 0
    while True:
        page = await gateway.admin.get("/admin/audit", after=after, limit=_PAGE, subject=_MODEL)
        entries += page["entries"]
        if page["next"] is None or len(page["entries"]) < _PAGE:
            return entries
        after = page["next"]
