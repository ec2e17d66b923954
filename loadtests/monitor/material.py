"""The model that is asked, the sample it is watched against, and the bodies of the requests, made beforehand.

Thirty numeric columns, of which three say something about the label, and one category. Bodies are texts with a hole
for the id, so that sending one costs the load tool a few microseconds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NUMERIC = tuple(f"x{number}" for number in range(30))
FEATURES = (*NUMERIC, "kind")
MODEL = "load"
REFERENCE_ROWS = 5_000

_KINDS = 4
_BODIES = 200
_ERRORS = 0.1


@dataclass(frozen=True)
class Body:
    """A request's text before and behind its id, and the truth about each of its rows."""

    before: bytes
    behind: bytes
    labels: tuple[int, ...]


def manifest() -> bytes:
    """The features with their kinds."""
    numeric = [{"name": name} for name in NUMERIC]
    kinds = {"name": "kind", "kind": "categorical", "categories": list(range(_KINDS))}
    return json.dumps({"features": [*numeric, kinds]}).encode()


def rows(count: int, seed: int) -> NDArray[np.float32]:
    """Fresh rows, shape (count, 31); the last column is the category's code."""
    random = np.random.default_rng(seed)
    found = random.normal(size=(count, len(FEATURES)))
    found[:, -1] = random.integers(0, _KINDS, count)
    return found.astype(np.float32)


def truth(of: NDArray[np.float32], seed: int) -> NDArray[np.int64]:
    """Labels of rows; one in ten can not be told from its row."""
    right = of[:, :3] @ np.array([1.0, -1.0, 0.5]) > 0
    labels: NDArray[np.int64] = (right ^ (np.random.default_rng(seed).random(len(of)) < _ERRORS)).astype(np.int64)
    return labels


def model(seed: int) -> bytes:
    """A logistic regression, converted."""
    from skl2onnx import to_onnx
    from sklearn.linear_model import LogisticRegression

    known = rows(4_000, seed)
    fitted = LogisticRegression().fit(known, truth(known, seed))
    converted: bytes = to_onnx(fitted, known[:1], options={"zipmap": False}).SerializeToString()
    return converted


def reference(seed: int) -> bytes:
    """The sample to publish with it, as CSV."""
    head = ",".join(FEATURES)
    lines = [
        ",".join([*(f"{value:.6g}" for value in row[:-1]), str(int(row[-1]))]) for row in rows(REFERENCE_ROWS, seed)
    ]
    return "\n".join([head, *lines, ""]).encode()


def bodies(rows_each: int, seed: int) -> list[Body]:
    """Requests of so many rows each, to be sent over and over."""
    drawn = rows(_BODIES * rows_each, seed)
    labels = truth(drawn, seed)
    made = []
    for start in range(0, len(drawn), rows_each):
        part = [
            [*(round(float(value), 5) for value in row[:-1]), int(row[-1])] for row in drawn[start : start + rows_each]
        ]
        inputs = part if rows_each > 1 else dict(zip(FEATURES, part[0], strict=True))
        before = f'{{"model":"{MODEL}","inputs":{json.dumps(inputs, separators=(",", ":"))},"id":"'
        made.append(Body(before.encode(), b'"}', tuple(labels[start : start + rows_each].tolist())))
    return made
