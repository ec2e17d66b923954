"""A recorded request as inputs of another version, by the features' names; or why that can not be. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum
from typing import Any

from gateway.errors import InvalidInput
from gateway.execution.contract import Contract, Prepared
from gateway.journal.record import Prediction
from gateway.registry.manifest import Feature, Manifest


class Why(StrEnum):
    """Why a request is not replayed."""

    DIGEST_ONLY = "digest_only"  # its inputs were larger than journal.max_record_bytes
    REDACTED = "redacted"  # journal.redact took out what the version needs
    CONTRACT_GONE = "contract_gone"  # the version whose columns the record has is not in the registry any more
    CONTRACT_MISMATCH = "contract_mismatch"  # the version needs a feature that the request did not have
    REJECTED = "rejected"  # the version's contract refuses these values


class Requests:
    """Prepares recorded requests for one version."""

    def __init__(self, contract: Contract, manifests: Mapping[int, Manifest], redacted: Collection[str]) -> None:
        """redacted: features that the policy takes out of the journal."""
        self._contract = contract
        self._features = contract.manifest.features
        self._redacted = frozenset(redacted)
        self._manifests = manifests
        self._places: dict[int, list[int] | Why] = {}

    def prepare(self, record: Prediction) -> Prepared | Why:
        """The request as the version would have got it."""
        if record.inputs is None:
            return Why.DIGEST_ONLY
        inputs = record.inputs if isinstance(record.inputs, dict) else self._rows(record)
        if isinstance(inputs, Why):
            return inputs
        try:
            return self._contract.records(inputs)
        except InvalidInput:
            return Why.REJECTED

    def _rows(self, record: Prediction) -> list[list[Any]] | Why:
        places = self._places.get(record.contract)
        if places is None:
            places = self._places[record.contract] = self._places_in(record.contract)
        if isinstance(places, Why):
            return places
        rows = [[None if place < 0 or place >= len(row) else row[place] for place in places] for row in record.inputs]
        hidden = [at for at, feature in enumerate(self._features) if feature.name in self._redacted]
        if any(row[at] is None for row in rows for at in hidden):
            return Why.REDACTED
        return rows

    def _places_in(self, number: int) -> list[int] | Why:
        """Where the version's features are in rows of that version's contract."""
        written = self._manifests.get(number)
        if written is None:
            return Why.CONTRACT_GONE
        there = {feature.name: place for place, feature in enumerate(written.features)}
        if not self._features or any(_is_needed(feature, there) for feature in self._features):
            return Why.CONTRACT_MISMATCH
        return [there.get(feature.name, -1) for feature in self._features]


def _is_needed(feature: Feature, there: Mapping[str, int]) -> bool:
    return feature.name not in there and not feature.may_be_missing
