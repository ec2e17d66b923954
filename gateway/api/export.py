"""The journal as lines for other programs: one record for each row of each prediction, labels joined when asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import msgspec

from gateway.errors import NotAllowed
from gateway.execution.tensors import BY_NAME
from gateway.journal.journal import START, TrafficJournal
from gateway.journal.record import Entry, Feedback, Prediction, TrafficRecord
from gateway.names import ModelName
from gateway.registry.manifest import Manifest
from gateway.registry.registry import Registry

Line = dict[str, Any]
_PAGE = 5000


class Label(NamedTuple):
    """The truth of one row."""

    label: Any
    value: float | None


class Labels:
    """The first label of each (id, row), held in memory: an export is a person's act, not the monitor's join."""

    def __init__(self, found: Mapping[tuple[str, int], Label]) -> None:
        self._found = found

    @classmethod
    async def read(cls, journal: TrafficJournal) -> Self:
        """All feedback of the journal."""
        found: dict[tuple[str, int], Label] = {}
        offset = START
        while (batch := await journal.read(offset, _PAGE)).entries:
            offset = batch.offset
            for entry in batch.entries:
                if isinstance(entry.record, Feedback):
                    record = entry.record
                    found.setdefault((record.id, record.row), Label(record.label, record.value))
        return cls(found)

    def of(self, id: str, row: int) -> Label:
        """The label of a row; nothing known is (None, None)."""
        return self._found.get((id, row), Label(None, None))


class Lines:
    """Makes lines; feature names come from the manifest that the record's inputs are in the order of."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._manifests: dict[str, dict[int, Manifest]] = {}

    async def of(
        self,
        entries: Sequence[Entry[TrafficRecord]],
        model: str | None,
        since_ns: int | None,
        labels: Labels | None,
    ) -> list[Line]:
        """The lines of these entries. labels: joined into predictions, and feedback has no lines of its own."""
        lines: list[Line] = []
        for entry in entries:
            record = entry.record
            if since_ns is not None and entry.time_ns < since_ns:
                continue
            if isinstance(record, Feedback):
                if labels is None and model is None:
                    lines.append(feedback_line(record, entry.time_ns))
            elif model is None or record.model == model:
                manifest = await self._manifest(record.model, record.contract)
                lines += prediction_lines(record, entry.time_ns, manifest, labels)
        return lines

    async def _manifest(self, model: str, number: int) -> Manifest | None:
        known = self._manifests.setdefault(model, {})
        if number not in known:
            known.update({one.number: one for one in await self._registry.versions(ModelName(model))})
        return known.get(number)


def feedback_line(record: Feedback, time_ns: int) -> Line:
    """One feedback as a line."""
    line: Line = {"kind": "feedback", "id": record.id, "row": record.row, "time": time_ns / 1e9}
    return line | {"label": record.label, "value": record.value}


def prediction_lines(record: Prediction, time_ns: int, manifest: Manifest | None, labels: Labels | None) -> list[Line]:
    """One line for each row of a prediction. Pure."""
    lines: list[Line] = []
    for row in range(max(record.rows, 1)):
        line: Line = {
            "kind": "prediction",
            "id": record.id,
            "row": row,
            "model": record.model,
            "version": record.version,
            "role": record.role,
            "reason": record.reason,
            "revision": record.revision,
            "time": time_ns / 1e9,
            "outcome": record.outcome,
            "latency_ms": record.latency_us / 1000,
            "inputs": _inputs(record.inputs, row, manifest),
            "outputs": {
                name: _row_of(name, value, row, record.rows, manifest) for name, value in record.outputs.items()
            },
        }
        if record.flags:
            line["flags"] = record.flags
        if record.inputs_digest:
            line["inputs_digest"] = record.inputs_digest
        if record.error:
            line["error"] = record.error
        if labels is not None:
            line |= labels.of(record.id, row)._asdict()
        lines.append(line)
    return lines


def _inputs(inputs: Any, row: int, manifest: Manifest | None) -> Any:
    if not isinstance(inputs, (list, tuple)):
        return inputs
    values = inputs[row] if row < len(inputs) else None
    if manifest is None or values is None or len(values) != len(manifest.features):
        return values
    return {feature.name: value for feature, value in zip(manifest.features, values, strict=True)}


def _row_of(name: str, value: Any, row: int, rows: int, manifest: Manifest | None) -> Any:
    """This row's part of an output that has one for each row; else the whole output."""
    shapes = {tensor.name: tensor.shape for tensor in manifest.outputs} if manifest is not None else {}
    is_by_row = shapes.get(name, (-1,))[:1] == (-1,)
    return value[row] if is_by_row and isinstance(value, (list, tuple)) and len(value) == rows else value


async def write_parquet(lines: AsyncIterator[Line], out: Path, manifests: Sequence[Manifest] = ()) -> None:
    """Write lines to a Parquet file. Needs the extra `analytics`.

    manifests: the versions of the one model that the lines are of: its features become columns of their own types in
    the struct `inputs`. Otherwise inputs are JSON text, as outputs are. A label is text: `1`, `yes`.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise NotAllowed("--format parquet needs pyarrow: pip install 'gateway[analytics]'") from error
    text, number, whole = pa.string(), pa.float64(), pa.int64()
    types = {"O": text, "b": pa.bool_(), "i": whole, "u": whole, "f": number}
    kinds = feature_kinds(manifests)
    schema = pa.schema(
        [
            *((name, text) for name in ("kind", "id")),
            ("row", whole),
            ("model", text),
            ("version", whole),
            *((name, text) for name in ("role", "reason")),
            ("revision", whole),
            ("time", pa.timestamp("us", tz="UTC")),
            ("outcome", text),
            ("latency_ms", number),
            ("inputs", pa.struct([(name, types[kind]) for name, kind in kinds.items()]) if kinds else text),
            *((name, text) for name in ("outputs", "label")),
            ("value", number),
            ("flags", pa.list_(text)),
            *((name, text) for name in ("inputs_digest", "error")),
        ]
    )
    with pq.ParquetWriter(out, schema) as writer:
        page: list[Line] = []
        async for line in lines:
            page.append(_flat(line, kinds))
            if len(page) == _PAGE:
                writer.write_table(pa.Table.from_pylist(page, schema))
                page = []
        writer.write_table(pa.Table.from_pylist(page, schema))


def feature_kinds(manifests: Sequence[Manifest]) -> dict[str, str]:
    """Every feature of these versions with its numpy kind; text (`O`) where they do not agree on numbers or texts."""
    kinds: dict[str, str] = {}
    for manifest in manifests:
        tensors = {tensor.name: tensor for tensor in manifest.inputs}
        for feature in manifest.features:
            kind = BY_NAME[tensors[feature.input].datatype].numpy.kind
            before = kinds.setdefault(feature.name, kind)
            if before != kind:
                kinds[feature.name] = "f" if {before, kind} <= {"i", "u", "f"} else "O"
    return kinds


def _flat(line: Line, kinds: Mapping[str, str]) -> Line:
    """A line with the time in microseconds, and what is nested and no struct as JSON text."""
    flat = {**line, "time": int(line["time"] * 1e6), "label": _text(line.get("label"))}
    inputs = line.get("inputs")
    if kinds:
        values = inputs if isinstance(inputs, dict) else {}
        flat["inputs"] = {name: _typed(values.get(name), kind) for name, kind in kinds.items()} if values else None
    elif inputs is not None:
        flat["inputs"] = _json(inputs)
    if line.get("outputs") is not None:
        flat["outputs"] = _json(line["outputs"])
    return flat


def _typed(value: Any, kind: str) -> Any:
    if value is None:
        return None
    return _text(value) if kind == "O" else float(value) if kind == "f" else value


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else _json(value)


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
