"""What a session costs without a gateway: a bare process that loads one model again and again.

Run as `python -m loadtests.scenarios.sessions MODEL COUNT`. Says as JSON the bytes (PSS) with 1 session and with COUNT,
each having run once, after the C library gave back what it can.
"""

from __future__ import annotations

import ctypes
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import psutil


def proportional_bytes() -> int:
    """PSS of this process."""
    ctypes.CDLL(None).malloc_trim(0)
    found: int = psutil.Process().memory_full_info().pss
    return found


def session(model: bytes) -> Any:
    """A session as the gateway opens it: one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    made = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    shape = [1 if not isinstance(size, int) else size for size in made.get_inputs()[0].shape]
    made.run(None, {made.get_inputs()[0].name: np.zeros(shape, np.float32)})
    return made


def main(arguments: Sequence[str]) -> None:
    """Load, read, tell."""
    model, count = Path(arguments[0]).read_bytes(), int(arguments[1])
    held = [session(model)]
    one = proportional_bytes()
    held += [session(model) for _ in range(count - 1)]
    print(json.dumps({"one": one, "all": proportional_bytes(), "sessions": len(held)}))


if __name__ == "__main__":
    main(sys.argv[1:])
