"""Unloading gives memory back: replacing a version a hundred times leaves the process as large as it was."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import psutil

from gateway.execution.session import load, release_memory
from gateway.registry.manifest import Feature, Manifest, PredictionSpec, Tensor
from gateway.registry.package import write_package
from tests.execution import graphs

SWAPS = 100
MOST_BYTES_A_SWAP = 32 * 1024
"""Measured: about 1.5 KiB a swap for this forest of about 1 MB when loaded."""


def test_a_hundred_swaps_leave_no_memory_behind(tmp_path: Path) -> None:
    """Peers grow at every reload; a gateway that swaps a version an hour for a year must not."""
    from sklearn.ensemble import RandomForestClassifier

    x, y = graphs.iris_like()
    model = graphs.exported(RandomForestClassifier(100, random_state=0), x, y)
    draft = Manifest(
        model="m",
        inputs=(Tensor(name="X", datatype="FP64", shape=(-1, x.shape[1])),),
        outputs=(
            Tensor(name="label", datatype="INT64", shape=(-1,)),
            Tensor(name="probabilities", datatype="FP32", shape=(-1, 3)),
        ),
        features=tuple(Feature(name=f"f{n}", input="X", position=n) for n in range(x.shape[1])),
        prediction=PredictionSpec(output="label", kind="class"),
        zipmap={"output_probability": "probabilities"},
    )
    manifest = write_package(tmp_path / "p", model, draft)
    process, resident = psutil.Process(), []
    now = load(manifest, tmp_path / "p", warm_up_rows=1)
    for _ in range(SWAPS + 10):
        fresh = load(manifest, tmp_path / "p", warm_up_rows=1)
        now.close()
        now = fresh
        release_memory()
        resident.append(process.memory_info().rss)
    slope = np.polyfit(np.arange(SWAPS), np.array(resident[-SWAPS:], float), 1)[0]
    assert slope < MOST_BYTES_A_SWAP
