"""Rows to train on: a directory with `rows.npz` (numbers and texts, no pickle) and `dataset.json`.

Everything is ordered by the time of the prediction. Times say what was known when: a label is known from
`labelled_ns` on. Rows of a file have no times; there a row's number stands for its time, and its label is known
`label_delay_rows` later, so that one rule serves both. Knows neither journal store nor gateway.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import MsgspecError, Struct, json
from numpy.typing import NDArray

from gateway.errors import Fault, InvalidConfig
from gateway.journal.join import LabelledRow
from gateway.retraining.recipe import Recipe

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

ROWS_FILE = "rows.npz"
DESCRIPTION_FILE = "dataset.json"


class Description(Struct, frozen=True, kw_only=True):
    """What `dataset.json` says. digest: SHA-256 over the columns' names and the rows in order.

    delay_seconds: median time from prediction to label. alert, change_ns: what the rows were exported for.
    """

    model: str
    features: tuple[str, ...]
    label: str
    rows: int
    digest: str
    alert: str = ""
    change_ns: int = 0
    delay_seconds: float = 0.0
    has_times: bool = True
    skipped: int = 0
    format: int = 1


@dataclass(frozen=True)
class Dataset:
    """features: float64 (rows, columns), NaN is missing; labels: whole numbers, numbers or texts, shape (rows,).

    predicted_ns, labelled_ns: int64 (rows,); predicted_ns ascends.
    """

    description: Description
    features: FloatArray
    labels: NDArray[Any]
    predicted_ns: IntArray
    labelled_ns: IntArray

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.labels)


def write_dataset(
    directory: Path,
    rows: Sequence[LabelledRow],
    *,
    model: str,
    features: Sequence[str],
    label: str = "label",
    alert: str = "",
    change_ns: int = 0,
) -> Description:
    """Write labelled rows whose `inputs` are in the order of `features`. Rows that are not usable are counted out."""
    usable = [row for row in rows if _is_usable(row, len(features))]
    usable.sort(key=lambda row: (row.predicted_ns, row.ordinal))
    dataset = _dataset(
        np.array([row.inputs for row in usable], dtype=np.float64).reshape(len(usable), len(features)),
        _labels([row.label for row in usable]),
        np.array([row.predicted_ns for row in usable], dtype=np.int64),
        np.array([row.labelled_ns for row in usable], dtype=np.int64),
        Description(
            model=model,
            features=tuple(features),
            label=label,
            rows=len(usable),
            digest="",
            alert=alert,
            change_ns=change_ns,
            skipped=len(rows) - len(usable),
        ),
    )
    save(directory, dataset)
    return dataset.description


def save(directory: Path, dataset: Dataset) -> None:
    """Write a dataset's two files; `dataset.json` comes last, so a directory with it is whole."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ROWS_FILE).open("wb") as file:
        np.savez(
            file,
            features=dataset.features,
            labels=dataset.labels,
            predicted_ns=dataset.predicted_ns,
            labelled_ns=dataset.labelled_ns,
        )
    (directory / DESCRIPTION_FILE).write_bytes(json.encode(dataset.description))


def read_dataset(directory: Path) -> Dataset:
    """The dataset of a directory, checked against its digest. Raises InvalidConfig."""
    try:
        description = json.decode((directory / DESCRIPTION_FILE).read_bytes(), type=Description)
        with np.load(directory / ROWS_FILE, allow_pickle=False) as arrays:
            parts = [arrays[name] for name in ("features", "labels", "predicted_ns", "labelled_ns")]
    except (OSError, KeyError, ValueError, MsgspecError) as error:
        raise InvalidConfig(f"{directory}: not a readable dataset: {error}") from error
    features, labels, predicted_ns, labelled_ns = parts
    dataset = _dataset(features, labels, predicted_ns, labelled_ns, description)
    if dataset.description.digest != description.digest:
        raise InvalidConfig(f"{directory / ROWS_FILE}: does not match the digest in {DESCRIPTION_FILE}")
    return dataset


def read_csv(path: Path, recipe: Recipe, limit: int | None = None) -> Dataset:
    """The first `limit` rows of a CSV file (gzip when it ends with .gz) with a header line.

    Needs the recipe's features and label as columns, in any order; an empty cell is a missing value.
    Raises InvalidConfig that names file, line and column.
    """
    open_text = gzip.open if path.suffix == ".gz" else open
    with open_text(path, "rt", newline="") as file:
        reader = csv.reader(file)
        places = _places(path, next(reader, []), recipe)
        features: list[list[Any]] = []
        labels: list[Any] = []
        for cells in reader:
            if limit is not None and len(labels) >= limit:
                break
            values = _values(path, reader.line_num, cells, places, recipe)
            features.append(values[:-1])
            labels.append(values[-1])
    count = len(labels)
    order = np.arange(count, dtype=np.int64)
    description = Description(
        model=recipe.model, features=recipe.names, label=recipe.label, rows=count, digest="", has_times=False
    )
    matrix = np.array(features, dtype=np.float64).reshape(count, len(recipe.features))
    return _dataset(matrix, _labels(labels), order, order + recipe.label_delay_rows, description)


def head(dataset: Dataset, features: Sequence[str]) -> Dataset:
    """The same rows with exactly these columns in this order. Raises InvalidConfig when one is not there."""
    there = {name: place for place, name in enumerate(dataset.description.features)}
    if missing := [name for name in features if name not in there]:
        raise InvalidConfig(f"the rows have no column {missing[0]!r}; they have {', '.join(there)}")
    columns = [there[name] for name in features]
    return replace(dataset, features=np.ascontiguousarray(dataset.features[:, columns]))


def _dataset(
    features: FloatArray,
    labels: NDArray[Any],
    predicted_ns: IntArray,
    labelled_ns: IntArray,
    description: Description,
) -> Dataset:
    header = json.encode([list(description.features), description.label, labels.dtype.kind])
    digest = hashlib.sha256(header)
    for part in (features.astype("<f8"), predicted_ns.astype("<i8"), labelled_ns.astype("<i8")):
        digest.update(np.ascontiguousarray(part).tobytes())
    digest.update(json.encode(labels.tolist()))
    delays = (labelled_ns - predicted_ns) / 1e9
    described = Description(
        **{
            **{name: getattr(description, name) for name in Description.__struct_fields__},
            "digest": digest.hexdigest(),
            "delay_seconds": float(np.median(delays)) if description.has_times and len(delays) else 0.0,
        }
    )
    return Dataset(described, features, labels, predicted_ns, labelled_ns)


def _is_usable(row: LabelledRow, width: int) -> bool:
    inputs = row.inputs
    return (
        isinstance(inputs, (list, tuple))
        and len(inputs) == width
        and all(value is None or isinstance(value, (int, float)) for value in inputs)
        and row.label is not None
        and not (isinstance(row.label, float) and math.isnan(row.label))
    )


def _labels(labels: Sequence[Any]) -> NDArray[Any]:
    """One kind for all: whole numbers, else numbers, else texts."""
    if all(isinstance(label, (int, float)) for label in labels):
        numbers = np.array(labels, dtype=np.float64)
        return numbers.astype(np.int64) if np.all(numbers == np.floor(numbers)) else numbers
    return np.array([str(label) for label in labels], dtype=np.str_)


def _places(path: Path, header: Sequence[str], recipe: Recipe) -> list[int]:
    there = {name.strip(): place for place, name in enumerate(header)}
    missing = [name for name in (*recipe.names, recipe.label) if name not in there]
    if missing:
        detail = f"the header has no column {missing[0]!r}; it has {', '.join(there) or 'nothing'}"
        raise InvalidConfig(f"{path}:1: {detail}", [Fault(f"{path}:1: {missing[0]}", detail)])
    return [there[name] for name in (*recipe.names, recipe.label)]


def _values(path: Path, line: int, cells: Sequence[str], places: Sequence[int], recipe: Recipe) -> list[Any]:
    values: list[Any] = []
    for name, place in zip((*recipe.names, recipe.label), places, strict=True):
        text = cells[place].strip() if place < len(cells) else ""
        is_label = name == recipe.label
        try:
            if is_label and recipe.classes and isinstance(recipe.classes[0], str):
                values.append(text)
            else:
                values.append(math.nan if not text and not is_label else float(text))
        except ValueError as error:
            place_text = f"{path}:{line}: {name}"
            detail = f"{text[:40]!r} is not a number"
            raise InvalidConfig(f"{place_text}: {detail}", [Fault(place_text, detail)]) from error
    return values
