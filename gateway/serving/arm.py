"""A version under one revision: what every request to it needs, looked up once."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from msgspec.structs import replace

from gateway.errors import Overloaded
from gateway.execution.contract import Contract, Prepared, contract_for
from gateway.execution.joining import joins_under
from gateway.execution.session import LoadedVersion
from gateway.execution.tensors import Tensors
from gateway.registry.manifest import MOST_JOINED_ROWS, Manifest
from gateway.routing.snapshot import Snapshot
from gateway.serving.cache import ResponseCache
from gateway.serving.measure import Tally
from gateway.serving.pressure import Pace, Pressure
from gateway.serving.request import PredictRequest, redacted

_TOO_MUCH = "more requests are waiting than can be answered in time"

_FEW = 3
"""So many requests at least are checked together: numpy's calls cost as much as looking at two rows."""


class Arm:
    """One loaded version as one generation serves it. Compared by identity."""

    __slots__ = (
        "_alike",
        "_contract",
        "_redact",
        "cache",
        "in_flight",
        "joins",
        "loaded",
        "most_in_flight",
        "pace",
        "pressure",
        "running",
        "running_until",
        "snapshot",
        "tally",
    )

    def __init__(self, loaded: LoadedVersion, snapshot: Snapshot, tally: Tally, pressure: Pressure) -> None:
        """pressure: of where the version runs."""
        self.loaded = loaded
        self.snapshot = snapshot
        self.tally = tally
        self.running = 0  # runs that have not ended
        self.running_until = 0.0  # monotonic seconds: by then they should have
        self.in_flight = 0  # requests that it was asked first and that are not answered
        self.pressure = pressure
        self.pace = Pace(loaded.cost_us, loaded.row_us)
        policy = snapshot.policy
        self.most_in_flight = policy.concurrency or sys.maxsize
        self.cache = ResponseCache(policy.cache.seconds) if policy.cache.seconds > 0 else None
        self.joins = joins_under(loaded.manifest, policy.joining.tolerance)
        self._alike: dict[int, bool] = {}
        self._redact = policy.journal.redact
        self._contract: Contract = contract_for(loaded.manifest, policy.inputs)

    def no_room(self, patience_us: float) -> Overloaded | None:
        """Why a request that has so much time left can not be answered here; None: it can."""
        if not self.pressure.takes(patience_us):
            return Overloaded(_TOO_MUCH, self.pressure.retry_after_seconds)
        if self.in_flight >= self.most_in_flight:
            version, most = self.loaded.manifest.version, self.most_in_flight
            return Overloaded(f"{version} answers {most} requests here, all that its policy allows (concurrency)")
        return None

    def reads_like(self, other: Manifest) -> bool:
        """True when what another version of the model was given can be given to this one as it is."""
        known = self._alike.get(other.number)
        if known is None:
            own = self.loaded.manifest
            known = self._alike[other.number] = (other.inputs, other.features) == (own.inputs, own.features)
        return known

    def prepare(self, request: PredictRequest) -> Prepared:
        """The request's inputs as tensors of this version, checked; journal values redacted. Raises InvalidInput."""
        if request.tensors is not None:
            prepared = self._contract.tensors(request.tensors)
        else:
            prepared = self._contract.records(request.inputs, request.are_numbers)
        return self._without_secrets(prepared)

    def prepare_all(self, requests: Sequence[PredictRequest]) -> tuple[list[Prepared | Exception], Tensors | None]:
        """`prepare` for each: the inputs or why they are refused. With it all of them as one table, where that is how
        they were checked."""
        if self.joins and len(requests) >= _FEW:
            are_numbers = all(request.are_numbers for request in requests)
            found, table = self._contract.clean([request.inputs for request in requests], are_numbers)
            if self._redact:
                found = [one if one is None else self._without_secrets(one) for one in found]
            if None not in found:
                rows = sum(one.rows for one in found if one is not None)
                return list(found), table if rows <= MOST_JOINED_ROWS else None  # type: ignore[arg-type]
            return [one or self._prepared(request) for one, request in zip(found, requests, strict=True)], None
        return [self._prepared(request) for request in requests], None

    def _prepared(self, request: PredictRequest) -> Prepared | Exception:
        try:
            return self.prepare(request)
        except Exception as error:  # noqa: BLE001 - one caller's inputs never fail another's; it is logged as unknown
            return error

    def _without_secrets(self, prepared: Prepared) -> Prepared:
        if not self._redact:
            return prepared
        return replace(prepared, values=redacted(prepared.values, self.loaded.manifest, self._redact))
