"""A file of rows through one version into a file: batch by batch, in bounded memory, resumable.

The rules are those of serving (`answer`): a row that the contract refuses has no prediction, and its reason beside it.
What is whole is written down behind every batch; a run that goes on from there writes, byte for byte, what a run
without interruption writes. Works on the stores' ports, so beside a running gateway as well as without one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from msgspec import MsgspecError, Struct, json

from gateway.documents.store import ConfigStore
from gateway.errors import InvalidInput, NotAllowed
from gateway.names import ModelName
from gateway.offline.answer import FLAGS, REJECTED, Answered, Answering, Column
from gateway.offline.cell import Layout, layout, readers
from gateway.offline.chosen import Chosen, choose
from gateway.offline.engine import Runs, Start, fetched_and_started, started
from gateway.offline.sink import Kept, PartFile, Pipe, encoder_of, part_of
from gateway.offline.source import Batch, Place, Source, identity, open_source
from gateway.registry.registry import Registry

_FORM = 1
"""Version of how rows become bytes: another release does not go on with a part file of a different form."""


class Order(Struct, frozen=True, kw_only=True):
    """What is asked for. source, out: paths, or `-` for a pipe (CSV). version: None is the champion of the route.

    keep: names of columns; None keeps all. is_strict: the first rejected row ends the run. resumes: go on where the
    run before ended, and begin where there is none.
    """

    model: ModelName
    source: str
    out: str
    version: int | None = None
    keep: tuple[str, ...] | None = None
    is_strict: bool = False
    resumes: bool = False


class Whole(Struct, frozen=True, kw_only=True):
    """How far a part file is whole. job: what tells this run from any other. size: of the part file, in bytes."""

    job: str
    version: int
    rows: int
    at: int
    size: int
    rejected: int
    flagged: int


class Scored(NamedTuple):
    """What came of it. resumed: rows that an earlier run had scored. absent, unknown: see `Layout`."""

    version: str
    rows: int
    rejected: int
    flagged: int
    resumed: int
    absent: tuple[str, ...]
    unknown: tuple[str, ...]


Progress = Callable[[int, int | None, int], None]
"""Told behind each batch: how much of the file is read, of how much (None: not known), and how many rows."""


async def score(
    order: Order, config: ConfigStore, registry: Registry, progress: Progress, start: Start = started
) -> Scored:
    """Score the file. Raises what `choose`, `layout` and the engine raise, NotAllowed, and InvalidInput when strict."""
    with closing(open_source(order.source)) as source:
        before = _read(order)
        number = before.version if before is not None and order.version is None else order.version
        chosen = await choose(config, registry, order.model, number)
        answering = Answering(chosen.manifest, chosen.policy)
        added = [*answering.columns, Column(FLAGS, "text"), Column(REJECTED, "text")]
        there = layout(source.names, chosen.manifest, order.keep, [column.name for column in added])
        job = _job(order, chosen)
        if before is not None and before.job != job:
            raise NotAllowed(
                f"{part_of(Path(order.out))} is of another run: the version, its policy, the input or the columns are "
                "others now; delete it to begin again"
            )
        run = _Run(order, job, chosen.manifest.number, source, there, answering, progress)
        async with fetched_and_started(registry, chosen.manifest, start) as engine:
            whole = await run.through(engine, before, added)
    resumed = before.rows if before is not None else 0
    version = str(chosen.manifest.version)
    return Scored(version, whole.rows, whole.rejected, whole.flagged, resumed, there.absent, there.unknown)


class _Run:
    """One run from its place to the end."""

    def __init__(
        self,
        order: Order,
        job: str,
        version: int,
        source: Source,
        there: Layout,
        answering: Answering,
        progress: Progress,
    ) -> None:
        self._order = order
        self._begin = Whole(job=job, version=version, rows=0, at=0, size=0, rejected=0, flagged=0)
        self._source = source
        self._layout = there
        self._answering = answering
        self._progress = progress

    async def through(self, engine: Runs, before: Whole | None, added: Sequence[Column]) -> Whole:
        """Score what is left; how far it is whole at the end."""
        whole = before or self._begin
        source, out = self._source, self._order.out
        kept = [Kept(source.names[place], source.types[place]) for place in self._layout.kept]
        encoder = encoder_of(out, kept, added)
        sink = Pipe(encoder) if out == "-" else PartFile(Path(out), encoder, whole.size)
        read = readers(self._answering.manifest)
        with closing(sink):
            for batch in source.batches(self._layout, read, Place(whole.rows, whole.at)):
                answered = await self._answering.answer(engine, batch.rows)
                if self._order.is_strict:
                    _refuse(answered, whole.rows)
                size = sink.write(batch.kept, _columns(answered, len(added)))
                whole = _further(whole, batch, answered, size)
                if out != "-":
                    _write(out, whole)
                self._progress(batch.done, source.total, whole.rows)
            sink.finish()
        if out != "-":
            _state_of(out).unlink(missing_ok=True)
        return whole


def _columns(answered: Sequence[Answered], width: int) -> list[list[Any]]:
    """The added columns of a batch. An empty text is no value."""
    rows = [[*one.values, " ".join(one.flags) or None, one.rejected or None] for one in answered]
    return [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in range(width)]


def _refuse(answered: Sequence[Answered], before: int) -> None:
    for row, one in enumerate(answered, start=before + 1):
        if one.rejected:
            raise InvalidInput(f"row {row}: {one.rejected}")


def _further(whole: Whole, batch: Batch, answered: Sequence[Answered], size: int) -> Whole:
    return Whole(
        job=whole.job,
        version=whole.version,
        rows=batch.place.rows,
        at=batch.place.at,
        size=size,
        rejected=whole.rejected + sum(1 for one in answered if one.rejected),
        flagged=whole.flagged + sum(1 for one in answered if one.flags),
    )


def _job(order: Order, chosen: Chosen) -> str:
    """What an output depends on, hashed; empty where nothing can go on."""
    if "-" in (order.source, order.out):
        return ""
    parts = [
        _FORM,
        chosen.manifest.digest,
        chosen.policy.inputs.model_dump_json(),
        chosen.policy.joining.tolerance,
        identity(order.source),
        order.keep,
    ]
    return hashlib.sha256(json.encode(parts)).hexdigest()


def _read(order: Order) -> Whole | None:
    """Where an earlier run ended; None: this one begins. Raises NotAllowed."""
    if "-" in (order.source, order.out):
        if order.resumes:
            raise NotAllowed("--resume needs files on both sides: a pipe can not be read again")
        return None
    part, state = part_of(Path(order.out)), _state_of(order.out)
    try:
        whole = json.decode(state.read_bytes(), type=Whole)
        if part.stat().st_size < whole.size:
            return None
    except (OSError, MsgspecError):
        return None
    if not order.resumes:
        raise NotAllowed(f"{part} holds {whole.rows} rows of a run that did not end: go on with --resume, or delete it")
    return whole


def _write(out: str, whole: Whole) -> None:
    state = _state_of(out)
    draft = state.with_name(f"{state.name}.draft")
    draft.write_bytes(json.encode(whole))
    draft.replace(state)


def _state_of(out: str) -> Path:
    part = part_of(Path(out))
    return part.with_name(f"{part.name}.json")
