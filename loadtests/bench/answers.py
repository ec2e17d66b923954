"""Is an answer right? Reads the probabilities out of every protocol that is measured and compares them. Pure.

A server that is fast and wrong would win, so each is asked before it is timed, and once more after.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from loadtests.bench.server import Check

FloatArray = npt.NDArray[np.float32]

TOLERANCE = 1e-5
"""The runtimes are one library in nearly one version; JSON with float32 digits loses less than this."""
BINARY_HEADER = "inference-header-content-length"


def checker(protocol: str, expected: Sequence[FloatArray], echoed: bytes = b"") -> Check:
    """A check of answers. expected: probabilities, shape (rows, classes), of each version that may answer."""

    def check(body: bytes, headers: Mapping[str, str]) -> str | None:
        if protocol == "echo":
            return None if body == echoed else f"{len(body)} bytes came back that are not the request's"
        try:
            found = probabilities(protocol, body, headers)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
            return f"the answer can not be read ({type(error).__name__}: {error}): {body[:200]!r}"
        if any(found.shape == one.shape and np.abs(found - one).max() <= TOLERANCE for one in expected):
            return None
        return f"wrong numbers: {found[:1].tolist()} for {[one[:1].tolist() for one in expected]}"

    return check


def probabilities(protocol: str, body: bytes, headers: Mapping[str, str]) -> FloatArray:
    """The probabilities in an answer, shape (rows, classes). Raises ValueError, KeyError or TypeError for others."""
    if protocol == "v2":
        return _v2(body, headers)
    content = json.loads(body)
    rows = {"predict": _outputs, "plain": _plain, "instances": _instances}[protocol](content)
    return np.array(rows, np.float32)


def version_of(body: bytes) -> int:
    """Which version of the gateway answered."""
    return int(json.loads(body)["version"])


def _outputs(content: Any) -> Any:
    return content["outputs"]["probabilities"]


def _plain(content: Any) -> Any:
    return content["probabilities"]


def _instances(content: Any) -> Any:
    return content["predictions"]


def _v2(body: bytes, headers: Mapping[str, str]) -> FloatArray:
    """Outputs of the Open Inference Protocol, as JSON or with binary tensors after it."""
    length = int(headers.get(BINARY_HEADER, len(body)))
    content, at = json.loads(body[:length]), length
    found: FloatArray | None = None
    for output in content["outputs"]:
        size = (output.get("parameters") or {}).get("binary_data_size")
        if output["name"] == "probabilities":
            data = np.array(output["data"], np.float32) if size is None else np.frombuffer(body[at : at + size], "<f4")
            found = data.reshape(output["shape"])
        at += size or 0
    if found is None:
        raise ValueError("no output is named probabilities")
    return found
