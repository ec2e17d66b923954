"""What versions cost in memory, whether it is given back, and what is left behind by each swap.

The versions are swapped in one after another first (so each has been champion and runs inline), then all of them are
routed at once as shadows that get nothing, then only the champion again. PSS of the serving process.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

import numpy as np

from loadtests.scenarios import graphs, stage
from loadtests.scenarios.finding import Finding, at_least, at_most
from loadtests.scenarios.stage import Gateway, Stage

_REPEATS = 8
_SETTLE_SECONDS = 0.5
_SLOPE_KIB = 16.0
"""Least squares over PSS readings that scatter by some hundred KiB: this is nothing over 100 swaps."""


def run(on: Stage) -> list[Finding]:
    """100 swaps, 100 versions more; quick: 20."""
    count = on.times(100, 20)
    models = [graphs.costing(_REPEATS, seed) for seed in range(count + 1)]
    raw = _raw_bytes(on, models[0], count + 1)
    with stage.whole(on, "memory") as gateway:
        gateway.publish(models[0], on.made.reference)
        held = [_proportional(gateway)]
        for version, model in enumerate(models[1:], 2):
            gateway.publish(model, on.made.reference)
            gateway.route({"champion": version})
            if version % 5 == 0:
                held.append(_proportional(gateway))
        last, others = count + 1, list(range(1, count + 1))
        gateway.route({"champion": last})
        alone = _proportional(gateway)
        gateway.route(_with_shadows(last, others))
        # A version that goes again makes the gateway trim: what loading left behind is not the versions' cost.
        gateway.route(_with_shadows(last, others[:-1]))
        many = _proportional(gateway)
        gateway.route({"champion": last})
        after = _proportional(gateway)
    return findings(raw, held, alone, many, after, count - 1)


def _with_shadows(champion: int, versions: Sequence[int]) -> dict[str, object]:
    """Every one is loaded, and none of them ever asked."""
    return {"champion": champion, "shadows": [{"version": version, "share": 0} for version in versions]}


def _proportional(gateway: Gateway) -> int:
    time.sleep(_SETTLE_SECONDS)
    found: int = gateway.serving_process().memory_full_info().pss
    return found


def _raw_bytes(on: Stage, model: bytes, count: int) -> float:
    """Bytes of one session more in a bare process."""
    file = on.folder / "raw.onnx"
    file.write_bytes(model)
    process = stage.start_tool(on, "sessions", [str(file), str(count)])
    try:
        said = json.loads(stage.told(process, 60.0))
    finally:
        stage.end_tool(process)
    return float(said["all"] - said["one"]) / (count - 1)


def slope_kib(held: Sequence[float], swaps_between: int) -> float:
    """KiB a swap, by least squares. held: bytes, in the order of the swaps; the first fifth is warm-up. Pure."""
    used = np.array(held[len(held) // 5 :], np.float64) / 1024
    swaps = np.arange(len(used)) * swaps_between
    return float(np.polyfit(swaps, used, 1)[0])


def findings(raw: float, held: Sequence[float], alone: float, many: float, after: float, count: int) -> list[Finding]:
    """The bars, from bytes. alone, many, after: the champion, `count` versions more, the champion again. Pure."""
    each, given_back = (many - alone) / count, (many - after) / max(1.0, many - alone)
    return [
        at_most(
            f"a version of {count} more / a raw session",
            each / raw,
            2.0,
            "x",
            f"{each / 1024:.0f} KiB, {raw / 1024:.0f} KiB raw; PSS of the serving process {alone / 1e6:.1f} MB alone",
        ),
        at_least(
            "given back when they are unloaded",
            100 * given_back,
            90.0,
            " %",
            f"{many / 1e6:.1f} MB with them, {after / 1e6:.1f} MB after",
            0,
        ),
        at_most(
            f"slope over {5 * (len(held) - 1)} swaps",
            slope_kib(held, 5),
            _SLOPE_KIB,
            " KiB a swap",
            f"{held[0] / 1e6:.1f} MB before, {held[-1] / 1e6:.1f} MB after them",
            1,
        ),
    ]
