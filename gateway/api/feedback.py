"""`POST /feedback`: labels and values that come later, one or many.

Late, repeated, unknown or early feedback is normal and accepted: the join counts it. Only a wrong shape is refused.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from starlette.types import Scope

from gateway import metrics
from gateway.api.body import check_keys, decode
from gateway.api.door import Sent, Serving
from gateway.errors import Fault, InvalidInput, JournalUnavailable
from gateway.journal.record import Feedback
from gateway.names import is_request_id

Label = str | int | float | bool | None
MAX_ROW = 1_000_000


class Item(msgspec.Struct, forbid_unknown_fields=True):
    """One row's truth. row: its place in the request, 0 for a single record."""

    id: Annotated[str, msgspec.Meta(extra_json_schema={"pattern": "^[\\x21-\\x7e]{1,128}$"})]
    row: Annotated[int, msgspec.Meta(extra_json_schema={"minimum": 0, "maximum": MAX_ROW})] | msgspec.UnsetType = (
        msgspec.UNSET
    )
    label: Label = None
    value: float | None = None


class Items(msgspec.Struct, forbid_unknown_fields=True):
    """Many at once."""

    feedback: list[Item]


_ONE = msgspec.json.Decoder(Item)
_MANY = msgspec.json.Decoder(Items)
_SHAPE = msgspec.json.Decoder(dict[str, msgspec.Raw])
MAX_LABEL_CHARACTERS = 1024


class TakeFeedback:
    """The call, for `gateway.api.door.Door`."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    async def __call__(self, scope: Scope, body: bytes) -> Sent:
        records = read_feedback(body)
        if not self._serving.feedback(records):
            raise JournalUnavailable("the journal can not take the feedback; send it again")
        metrics.feedback.inc(len(records))
        return 202, msgspec.json.encode({"accepted": len(records)}), ()


def read_feedback(body: bytes) -> list[Feedback]:
    """The records in a body. Raises InvalidInput naming the item."""
    is_many = "feedback" in decode(_SHAPE, body)
    items = decode(_MANY, body).feedback if is_many else [decode(_ONE, body)]
    check_keys(body, is_many + sum(_keys(item) for item in items))
    places = [f"/feedback/{number}" for number in range(len(items))] if is_many else [""]
    faults = [fault for item, place in zip(items, places, strict=True) for fault in _faults(item, place)]
    if faults:
        raise InvalidInput("; ".join(f"{fault.pointer} {fault.detail}" for fault in faults[:5]), faults[:100])
    return [Feedback(id=item.id, row=item.row or 0, label=item.label, value=item.value) for item in items]


def _keys(item: Item) -> int:
    return 1 + (item.row is not msgspec.UNSET) + (item.label is not None) + (item.value is not None)


def _faults(item: Item, place: str) -> list[Fault]:
    faults: list[Fault] = []
    if not is_request_id(item.id):
        faults.append(Fault(f"{place}/id", "must be 1 to 128 visible ASCII characters, as /predict answered it"))
    if not 0 <= (item.row or 0) <= MAX_ROW:
        faults.append(Fault(f"{place}/row", f"must be 0 to {MAX_ROW}: the row's place in the request"))
    if item.label is None and item.value is None:
        faults.append(Fault(f"{place}/label", "give a label, a value or both"))
    if isinstance(item.label, str) and len(item.label) > MAX_LABEL_CHARACTERS:
        faults.append(Fault(f"{place}/label", f"must be at most {MAX_LABEL_CHARACTERS} characters"))
    if isinstance(item.label, int) and abs(item.label) >= 2**63:
        faults.append(Fault(f"{place}/label", "must fit a 64-bit integer"))
    return faults
