"""The join index in memory: the port `gateway.journal.join.JoinIndex`.

Keeps encoded bodies, as a store on disk does: what comes back is never the object that went in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from gateway.journal.join import Early, LabelledRow, WaitingPrediction
from gateway.journal.journal import START, Offset

_encode = msgspec.msgpack.Encoder().encode
_waiting = msgspec.msgpack.Decoder(WaitingPrediction).decode
_early = msgspec.msgpack.Decoder(tuple[Early, ...]).decode
_labelled = msgspec.msgpack.Decoder(LabelledRow).decode


class MemoryJoinIndex:
    """See `JoinIndex`."""

    def __init__(self) -> None:
        self._checkpoint: tuple[Offset, bytes] = (START, b"")
        self._waiting: dict[str, bytes] = {}
        self._early: dict[str, bytes] = {}
        self._labelled: dict[str, dict[int, bytes]] = {}
        self._counts: dict[str, int] = {}

    async def checkpoint(self) -> tuple[Offset, bytes]:
        """See `JoinIndex`."""
        return self._checkpoint

    async def find(self, ids: Sequence[str]) -> Mapping[str, WaitingPrediction]:
        """See `JoinIndex`."""
        return {id_: _waiting(self._waiting[id_]) for id_ in ids if id_ in self._waiting}

    async def find_feedback(self, ids: Sequence[str]) -> Mapping[str, Sequence[Early]]:
        """See `JoinIndex`."""
        return {id_: _early(self._early[id_]) for id_ in ids if id_ in self._early}

    async def commit(
        self,
        offset: Offset,
        state: bytes,
        waiting: Sequence[WaitingPrediction] = (),
        early: Mapping[str, Sequence[Early]] = {},
        labelled: Sequence[LabelledRow] = (),
    ) -> None:
        """See `JoinIndex`."""
        # Everything that can fail comes first: all or nothing.
        waits = {one.id: _encode(one) for one in waiting}
        kept = {id_: _encode(items) for id_, items in early.items() if items}
        rows = [(row.model, row.ordinal, _encode(row)) for row in labelled]
        self._waiting |= waits
        self._early = {id_: body for id_, body in self._early.items() if id_ not in early} | kept
        for model, ordinal, body in rows:
            self._labelled.setdefault(model, {})[ordinal] = body
            self._counts[model] = max(ordinal, self._counts.get(model, 0))
        self._checkpoint = (offset, bytes(state))

    async def labelled(self, model: str, limit: int, since_ns: int = 0) -> Sequence[LabelledRow]:
        """See `JoinIndex`."""
        rows = self._labelled.get(model, {})
        newest: list[LabelledRow] = []
        for ordinal in sorted(rows, reverse=True):
            if len(newest) >= limit:
                break
            row = _labelled(rows[ordinal])
            if row.predicted_ns >= since_ns:
                newest.append(row)
        return newest[::-1]

    async def count(self, model: str) -> int:
        """See `JoinIndex`."""
        return self._counts.get(model, 0)

    async def trim(self, waiting_before_ns: int, labelled_before_ns: int, early_before_ns: int = 0) -> int:
        """See `JoinIndex`."""
        waits = {id_: _waiting(body) for id_, body in self._waiting.items()}
        old = {id_: one for id_, one in waits.items() if one.time_ns < waiting_before_ns}
        for id_ in old:
            del self._waiting[id_]
        early = {id_: max(item[1] for item in _early(body)) for id_, body in self._early.items()}
        oldest = max(waiting_before_ns, early_before_ns)
        self._early = {id_: body for id_, body in self._early.items() if early[id_] >= oldest}
        for model, rows in self._labelled.items():
            kept = {n: body for n, body in rows.items() if _labelled(body).predicted_ns >= labelled_before_ns}
            self._labelled[model] = kept
        return sum(not one.labels for one in old.values())
