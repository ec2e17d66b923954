"""The slices of a version's labelled rows: where one that is fine on the whole is often wrong.

Slices are those of the policy's `monitoring.slices`: a category is its own slice, a number falls into a quarter of
the version's reference (of the contract's span without one). All is known before the first row, so what is in a slice
does not depend on the traffic; categories that neither reference nor contract knows are in `other`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gateway.monitor.figures.counts import Counts
from gateway.monitor.version import Version
from gateway.registry.column import QUANTILES
from gateway.registry.manifest import Feature
from gateway.registry.reference import ColumnReference, category
from gateway.registry.slice import LONGEST_NAME, MOST_VALUES, Limits, category_text, limits_of, number_slice

MOST_SLICES = 40
"""So many slices of a version have figures; rows of any further one count in `other` of their feature."""

MOST_FEATURES = 16
"""So many features are cut; further ones of the policy are told in the note."""

_QUARTERS = (0.25, 0.5, 0.75)


class SliceCounts(Counts, array_like=True):
    """The labelled rows of one slice."""


class Cuts:
    """How the rows of one version are cut. wanted: features, in the policy's order."""

    def __init__(self, wanted: Sequence[str], version: Version) -> None:
        self._limits: dict[str, Limits] = {}
        self._known: dict[str, set[str]] = {}
        columns = {one.name: one for one in version.reference.features} if version.reference is not None else {}
        for feature in version.manifest.features:
            if feature.name in wanted[:MOST_FEATURES]:
                self._cut(feature, columns.get(feature.name))

    def of(self, row: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Feature and slice, for each feature that the row has."""
        found = [(name, number_slice(name, row[name], limits)) for name, limits in self._limits.items() if name in row]
        for name, known in self._known.items():
            if name in row:
                text = category_text(row[name])
                found.append((name, f"{name}={text if text in known else 'other'}"))
        return found

    def _cut(self, feature: Feature, column: ColumnReference | None) -> None:
        kind = column.kind if column is not None else feature.kind
        if kind == "numeric":
            if inner := _inner(feature, column):
                self._limits[feature.name] = limits_of(feature.name, inner)
            return
        texts = column.categories if column is not None else tuple(category(one) for one in feature.categories)
        self._known[feature.name] = {"missing", *(text[:LONGEST_NAME] for text in texts[:MOST_VALUES])}


class Slicer:
    """Which slices labelled rows are in, during one fold. versions: of the model, by number."""

    def __init__(self, wanted: Sequence[str], versions: Mapping[int, Version]) -> None:
        self._wanted = wanted
        self._versions = versions
        self._cuts: dict[int, Cuts] = {}

    def of(self, version: int, contract: int, inputs: Any) -> list[tuple[str, str]]:
        """Feature and slice of a row that `version` answered. contract: the version in whose order the inputs are."""
        known = self._versions.get(version) if self._wanted else None
        if known is None:
            return []
        if version not in self._cuts:
            self._cuts[version] = Cuts(self._wanted, known)
        return self._cuts[version].of(row_of(inputs, self._versions.get(contract)))


def row_of(inputs: Any, contract: Version | None) -> dict[str, Any]:
    """One row by feature; empty where its inputs were not kept, or are tensors. contract: whose order it has."""
    features = contract.manifest.features if contract is not None else ()
    if not isinstance(inputs, list | tuple) or len(inputs) != len(features):
        return {}
    return {feature.name: value for feature, value in zip(features, inputs, strict=True)}


def bounded(found: Sequence[tuple[str, str]], counted: Mapping[str, Any]) -> list[str]:
    """The slices that a row counts in. counted: those that have figures; a further one is `other` of its feature."""
    names, room = [], MOST_SLICES - len(counted)
    for feature, name in found:
        is_new = name not in counted
        names.append(f"{feature}=other" if is_new and room <= 0 else name)
        room -= is_new
    return names


def not_cut(wanted: Sequence[str], version: Version) -> str:
    """Which names of the policy have no slices, and why; empty when all have."""
    known = {feature.name for feature in version.manifest.features}
    unknown = [name for name in wanted if name not in known]
    told = [f"no feature {', '.join(unknown)}"] if unknown else []
    if len(wanted) > MOST_FEATURES:
        told.append(f"only the first {MOST_FEATURES} features are cut")
    return "; ".join(told)


def _inner(feature: Feature, column: ColumnReference | None) -> list[float]:
    """The three limits between the quarters; none when nothing is known of the feature's numbers."""
    if column is not None and column.quantiles:
        return [column.quantiles[round(share * (QUANTILES - 1))] for share in _QUARTERS]
    if feature.low is None or feature.high is None:
        return []
    return [feature.low + share * (feature.high - feature.low) for share in _QUARTERS]
