"""Versions trained independently of each other on the same data, equal in quality: all of them must be promoted."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

from loadtests.rollouts import models
from loadtests.rollouts.caller import Callers
from loadtests.rollouts.stage import running
from loadtests.scenarios.finding import Finding, none_failed

_MODEL = "equal"
_RATE = 800.0
_LONGEST_SECONDS = 60.0
_MOST_FOR_QUALITY = 0.1

POLICY = """\
model: equal
rollout:
  steps:
    - {shadow: 100, until: {pairs: 500}}
    - {canary: 5, until: {requests: 25}}
    - {canary: 50, until: {requests: 500}}
    - {promote: auto}
  after_promotion: {requests: 500}
"""
"""The guards are the standard ones; the steps end on counts, so that many versions fit into minutes."""


async def run(folder: Path, seed: int, versions: int) -> list[Finding]:
    """So many versions, one after the other."""
    reasons: list[str] = []
    unfinished: Counter[str] = Counter()
    began = time.monotonic()
    async with running(folder, {_MODEL: POLICY}) as gateway:
        await gateway.serve(_MODEL, models.good(seed))
        callers = Callers(gateway.port, _MODEL, models.draw(5_000, seed + 1), _RATE, labelled=True)
        async with callers.calling() as seen:
            for number in range(1, versions + 1):
                version = await gateway.publish(_MODEL, models.good(seed + number))
                await gateway.start(_MODEL, version)
                shown = await gateway.ended(_MODEL, _LONGEST_SECONDS)
                if shown["phase"] == "rolled_back":
                    reasons.append(shown["reason"])
                    print(f"  {_MODEL}@{version} rolled back: {shown['reason']}", flush=True)
                elif shown["phase"] != "promoted" or shown["guarding"]:
                    unfinished[shown["phase"]] += 1
                    break
    lasted = f"{(time.monotonic() - began) / versions:.1f} s and {seen.requests / versions:,.0f} requests each"
    failed = none_failed("requests that failed", seen.failures, seen.requests, dict.fromkeys(seen.texts, 1))
    return [*findings(versions, reasons, unfinished, lasted), failed]


def findings(versions: int, reasons: list[str], unfinished: Counter[str], lasted: str) -> list[Finding]:
    """The bars. reasons: of the versions that were rolled back. Pure."""
    for_quality = sum(reason.startswith("quality:") for reason in reasons)
    others = [reason for reason in reasons if not reason.startswith("quality:")]
    most = int(versions * _MOST_FOR_QUALITY)
    what = f"of {versions} equal versions rolled back for"
    still = ", ".join(f"{count} still {phase}" for phase, count in unfinished.items())
    return [
        Finding(
            f"{what} errors, latency or anything but quality", str(len(others)), "0", not others, "; ".join(others)
        ),
        Finding(f"{what} quality", str(for_quality), f"<= {most}", for_quality <= most, lasted),
        Finding("whose rollout did not end", str(unfinished.total()), "0", not unfinished, still),
    ]
