"""The rows of a job: read from the join index, put in the champion's feature order, written as a dataset directory.

Says as well whether they are enough: a job that could only end as too_few_new_labels is not started.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from gateway.documents.policy import RetrainingPolicy
from gateway.journal.join import JoinIndex, LabelledRow
from gateway.registry.manifest import Manifest
from gateway.retraining.rows.dataset import Description, read_dataset, write_dataset
from gateway.retraining.rows.span import MOST_ROWS, rows_wanted
from gateway.retraining.rows.split import shortfall, split


class Exported(NamedTuple):
    """A dataset directory. missing: how many more labels a job needs at least; 0 when it can start."""

    description: Description
    missing: int


def trained_until_ns(champion: Manifest) -> int:
    """When the last label that this version was fitted on was known; for a file that does not say, when it was made."""
    known = int(champion.lineage.parameters.get("trained_until_ns", 0))
    return known or int(champion.created * 1e9)


async def export(
    joins: JoinIndex,
    manifests: Mapping[int, Manifest],
    champion: Manifest,
    policy: RetrainingPolicy,
    directory: Path,
    alert: str = "",
    change_ns: int = 0,
) -> Exported:
    """Write the newest labelled rows of the champion's model to `directory`."""
    limit = rows_wanted(policy)
    rows = await joins.labelled(champion.model, limit)
    if change_ns and len(rows) == limit and rows[0].predicted_ns > change_ns:
        rows = await joins.labelled(champion.model, MOST_ROWS)
    return await asyncio.to_thread(_write, rows, manifests, champion, directory, alert, change_ns)


def in_order(
    rows: Sequence[LabelledRow], manifests: Mapping[int, Manifest], features: Sequence[str]
) -> list[LabelledRow]:
    """The rows with inputs in the order of `features`; those of a version without one of them are left out."""
    wanted = tuple(features)
    places: dict[int, list[int] | None] = {}
    found = []
    for row in rows:
        if row.contract not in places:
            places[row.contract] = _places(manifests.get(row.contract), wanted)
        columns = places[row.contract]
        if columns is None or not isinstance(row.inputs, (list, tuple)) or len(row.inputs) <= max(columns):
            continue
        if columns == list(range(len(row.inputs))):
            found.append(row)
        else:
            found.append(replace(row, inputs=[row.inputs[place] for place in columns]))
    return found


def _places(manifest: Manifest | None, wanted: Sequence[str]) -> list[int] | None:
    there = {} if manifest is None else {feature.name: place for place, feature in enumerate(manifest.features)}
    return [there[name] for name in wanted] if wanted and all(name in there for name in wanted) else None


def texts_of(manifest: Manifest) -> frozenset[str]:
    """The features that the version takes as texts."""
    inputs = {tensor.name for tensor in manifest.inputs if tensor.datatype == "BYTES"}
    return frozenset(feature.name for feature in manifest.features if feature.input in inputs)


def _write(
    rows: Sequence[LabelledRow],
    manifests: Mapping[int, Manifest],
    champion: Manifest,
    directory: Path,
    alert: str,
    change_ns: int,
) -> Exported:
    features = [feature.name for feature in champion.features]
    usable = in_order(rows, manifests, features)
    description = write_dataset(
        directory,
        usable,
        model=champion.model,
        features=features,
        alert=alert,
        change_ns=change_ns,
        texts=texts_of(champion),
    )
    asked = champion.lineage.parameters
    least, holdout = int(asked.get("least_rows", 0)), int(asked.get("asked_holdout_rows", 0))
    if not holdout:  # not made by a recipe: the job itself knows what it asks for
        return Exported(description, 0)
    parts = split(read_dataset(directory), holdout, trained_until_ns(champion))
    return Exported(description, shortfall(parts, least - int(asked.get("history_rows", 0))))
