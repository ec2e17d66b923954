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
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import MsgspecError, Struct, json
from msgspec.structs import replace as changed
from numpy.typing import NDArray

from gateway.errors import Fault, InvalidConfig
from gateway.journal.join import LabelledRow
from gateway.registry.reference import category
from gateway.retraining.recipe import Recipe

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
TextArray = NDArray[np.str_]

ROWS_FILE = "rows.npz"
DESCRIPTION_FILE = "dataset.json"


class Description(Struct, frozen=True, kw_only=True):
    """What `dataset.json` says. digest: SHA-256 over the columns' names and the rows in order.

    delay_seconds: median time from prediction to label. alert, change_ns: what the rows were exported for.
    texts: places of the columns that hold texts. skipped: rows that could not be used. history: how many of the rows
    are from before the journal (`history.with_history`).
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
    history: int = 0
    texts: tuple[int, ...] = ()
    format: int = 1


@dataclass(frozen=True)
class Dataset:
    """features: float64 (rows, columns), NaN is missing; labels: whole numbers, numbers or texts, shape (rows,).

    predicted_ns, labelled_ns: int64 (rows,); predicted_ns ascends. texts: column -> its texts, "" is missing; such a
    column of `features` is NaN until `coding.coded` has put the places of the categories there.
    """

    description: Description
    features: FloatArray
    labels: NDArray[Any]
    predicted_ns: IntArray
    labelled_ns: IntArray
    texts: Mapping[int, TextArray] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.labels)

    def plain(self, places: IntArray) -> list[list[Any]]:
        """Rows as a caller sends them: numbers, texts, None for what is missing."""
        rows = [[None if value != value else value for value in row] for row in self.features[places].tolist()]
        for column, texts in self.texts.items():
            for row, text in zip(rows, texts[places].tolist(), strict=True):
                row[column] = text or None
        return rows


def write_dataset(
    directory: Path,
    rows: Sequence[LabelledRow],
    *,
    model: str,
    features: Sequence[str],
    label: str = "label",
    alert: str = "",
    change_ns: int = 0,
    texts: Collection[str] = (),
) -> Description:
    """Write labelled rows whose `inputs` are in the order of `features`. Rows that are not usable are counted out.

    texts: the features that are texts; a text anywhere else, as redaction writes it, makes a row unusable.
    """
    kinds = [str if name in texts else float for name in features]
    usable = _of_one_kind([row for row in rows if _is_usable(row, kinds)])
    usable.sort(key=lambda row: (row.predicted_ns, row.ordinal))
    matrix, columns = _columns([row.inputs for row in usable], len(features))
    dataset = _dataset(
        matrix,
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
        columns,
    )
    save(directory, dataset)
    return dataset.description


def save(directory: Path, dataset: Dataset) -> None:
    """Write a dataset's two files; `dataset.json` comes last, so a directory with it is whole."""
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / ROWS_FILE).open("wb") as file:
        arrays: dict[str, Any] = {
            "features": dataset.features,
            "labels": dataset.labels,
            "predicted_ns": dataset.predicted_ns,
            "labelled_ns": dataset.labelled_ns,
            **{_text_name(column): texts for column, texts in dataset.texts.items()},
        }
        np.savez(file, **arrays)
    (directory / DESCRIPTION_FILE).write_bytes(json.encode(dataset.description))


def read_dataset(directory: Path) -> Dataset:
    """The dataset of a directory, checked against its digest. Raises InvalidConfig."""
    try:
        description = json.decode((directory / DESCRIPTION_FILE).read_bytes(), type=Description)
        with np.load(directory / ROWS_FILE, allow_pickle=False) as arrays:
            parts = [arrays[name] for name in ("features", "labels", "predicted_ns", "labelled_ns")]
            texts = {column: arrays[_text_name(column)] for column in description.texts}
    except (OSError, KeyError, ValueError, MsgspecError) as error:
        raise InvalidConfig(f"{directory}: not a readable dataset: {error}") from error
    features, labels, predicted_ns, labelled_ns = parts
    dataset = _dataset(features, labels, predicted_ns, labelled_ns, description, texts)
    if dataset.description.digest != description.digest:
        raise InvalidConfig(f"{directory / ROWS_FILE}: does not match the digest in {DESCRIPTION_FILE}")
    return dataset


def read_csv(path: Path, recipe: Recipe, limit: int | None = None) -> Dataset:
    """The first `limit` rows of a CSV file (gzip when it ends with .gz) with a header line.

    Needs the recipe's features and label as columns, in any order; an empty cell is a missing value. Categorical
    features may be texts.
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
    matrix, texts = _columns(features, len(recipe.features))
    return _dataset(matrix, _labels(labels), order, order + recipe.label_delay_rows, description, texts)


def head(dataset: Dataset, features: Sequence[str]) -> Dataset:
    """The same rows with exactly these columns in this order. Raises InvalidConfig when one is not there."""
    there = {name: place for place, name in enumerate(dataset.description.features)}
    if missing := [name for name in features if name not in there]:
        raise InvalidConfig(f"the rows have no column {missing[0]!r}; they have {', '.join(there)}")
    columns = [there[name] for name in features]
    texts = {place: dataset.texts[column] for place, column in enumerate(columns) if column in dataset.texts}
    return replace(dataset, features=np.ascontiguousarray(dataset.features[:, columns]), texts=texts)


def digested(dataset: Dataset) -> Dataset:
    """The dataset with the digest, the median delay and the places of texts that belong to its rows."""
    described = dataset.description
    header = json.encode([list(described.features), described.label, dataset.labels.dtype.kind])
    digest = hashlib.sha256(header)
    parts = (dataset.features.astype("<f8"), dataset.predicted_ns.astype("<i8"), dataset.labelled_ns.astype("<i8"))
    for part in parts:
        digest.update(np.ascontiguousarray(part).tobytes())
    digest.update(json.encode(dataset.labels.tolist()))
    for column in sorted(dataset.texts):
        digest.update(json.encode([column, dataset.texts[column].tolist()]))
    delays = (dataset.labelled_ns - dataset.predicted_ns)[described.history :] / 1e9
    return replace(
        dataset,
        description=changed(
            described,
            digest=digest.hexdigest(),
            texts=tuple(sorted(dataset.texts)),
            delay_seconds=float(np.median(delays)) if described.has_times and len(delays) else 0.0,
        ),
    )


def _dataset(
    features: FloatArray,
    labels: NDArray[Any],
    predicted_ns: IntArray,
    labelled_ns: IntArray,
    description: Description,
    texts: Mapping[int, TextArray] | None = None,
) -> Dataset:
    return digested(Dataset(description, features, labels, predicted_ns, labelled_ns, texts or {}))


def _is_usable(row: LabelledRow, kinds: Sequence[type]) -> bool:
    inputs = row.inputs
    return (
        isinstance(inputs, (list, tuple))
        and len(inputs) == len(kinds)
        and all(_fits(value, kind) for value, kind in zip(inputs, kinds, strict=True))
        and row.label is not None
        and not (isinstance(row.label, float) and math.isnan(row.label))
    )


def _fits(value: Any, kind: type) -> bool:
    if kind is str:
        return value is None or (isinstance(value, str))
    return value is None or isinstance(value, (int, float))


def _of_one_kind(rows: list[LabelledRow], most: float = 0.01) -> list[LabelledRow]:
    """Without the few labels that are texts among numbers, or numbers among texts: strays of a careless caller."""
    texts = [row for row in rows if isinstance(row.label, str)]
    fewer = min(len(texts), len(rows) - len(texts))
    if not 0 < fewer <= most * len(rows):
        return rows
    keeps_texts = len(texts) > fewer
    return [row for row in rows if isinstance(row.label, str) is keeps_texts]


def _columns(rows: Sequence[Sequence[Any]], width: int) -> tuple[FloatArray, dict[int, TextArray]]:
    """Numbers (rows, width), and the columns where any value is a text."""
    try:
        return np.array(rows, dtype=np.float64).reshape(len(rows), width), {}
    except ValueError:
        pass  # a text: column by column
    matrix = np.full((len(rows), width), math.nan)
    texts = {}
    for column in range(width):
        values = [row[column] for row in rows]
        if any(isinstance(value, str) for value in values):
            texts[column] = as_texts(values)
        else:
            matrix[:, column] = np.array(values, dtype=np.float64)
    return matrix, texts


def as_texts(values: Iterable[Any]) -> TextArray:
    """Values of a categorical column as texts; "" for what is missing."""
    return np.array(["" if value is None or value != value else category(value) for value in values], dtype=np.str_)


def _text_name(column: int) -> str:
    return f"text_{column}"


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
    categorical = {feature.name for feature in recipe.features if feature.kind == "categorical"}
    for name, place in zip((*recipe.names, recipe.label), places, strict=True):
        text = cells[place].strip() if place < len(cells) else ""
        is_label = name == recipe.label
        try:
            is_text = bool(recipe.classes) and isinstance(recipe.classes[0], str) if is_label else name in categorical
            if is_text and (is_label or (text and not _is_number(text))):
                values.append(text)
            else:
                values.append(math.nan if not text and not is_label else float(text))
        except ValueError as error:
            place_text = f"{path}:{line}: {name}"
            detail = f"{text[:40]!r} is not a number"
            raise InvalidConfig(f"{place_text}: {detail}", [Fault(place_text, detail)]) from error
    return values


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
