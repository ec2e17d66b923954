"""The check of one model, from bytes to findings: walk the protobuf, load, smoke-run, read the signature.

Runs in the limited child of the admission server, because everything here touches bytes of a stranger: the model may
crash, hang or eat all memory, and then this process is the one that ends. Knows nothing of processes and limits.
"""

from __future__ import annotations

import math
import re
import resource
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx

from gateway.errors import CorruptPackage, ExecutionError, InvalidInput
from gateway.execution.finding import Findings
from gateway.execution.inspection import class_labels, known_texts, parse, printable, reasons_against, repaired
from gateway.execution.joining import try_joining
from gateway.execution.session import OUT_OF_MEMORY, classes_of_maps, open_session, run_session, warm_up_rows_of
from gateway.execution.signature import (
    Described,
    Refusal,
    read_features,
    read_inputs,
    read_outputs,
    read_prediction,
    read_zipmap,
)
from gateway.execution.tensors import Tensors, from_example, from_rows, made_up
from gateway.registry.manifest import Manifest
from gateway.registry.reference import REFERENCE_FILE

Rows = list[list[Any]]

MOST_EXAMPLE_ELEMENTS = 10_000
"""An example lies in the manifest, which is read whole whenever versions are listed."""


def examine(model: bytes, draft: Manifest, reference: bytes | None) -> Findings:
    """All checks of one model. Never raises for a bad one: the reasons say what is wrong."""
    parsed = parse(model)
    if parsed is None:
        return Findings(reasons=("the file is not an ONNX model (cut off, or another format)",))
    if reasons := reasons_against(parsed):
        return Findings(reasons=tuple(reasons))
    try:
        before = resident_bytes()
        session, changed = _open(model, parsed)
        rows = warm_up_rows_of({} if reference is None else {REFERENCE_FILE: reference})
        manifest, warmup = _smoke(session, parsed, draft, rows)
    except (Refusal, CorruptPackage) as error:
        return Findings(reasons=(str(error),))
    manifest = msgspec.structs.replace(manifest, memory_bytes=max(0, resident_bytes() - before))
    return Findings(manifest=manifest, model=changed, warmup=warmup)


def resident_bytes() -> int:
    """What this process holds in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def _open(model: bytes, parsed: onnx.ModelProto) -> tuple[Any, bytes | None]:
    """A session, and the model's bytes when they had to be changed to get it. Raises Refusal."""
    try:
        return open_session(model), None
    except ExecutionError as error:
        other = repaired(parsed)
        if other is not None:
            changed = other.SerializeToString(deterministic=True)
            try:
                return open_session(changed), changed
            except ExecutionError:
                pass  # the first error is about the publisher's own file
        raise Refusal(f"{error}: {_cause(error)}{_hint(error)}") from error


def _smoke(session: Any, parsed: onnx.ModelProto, draft: Manifest, rows: Rows) -> tuple[Manifest, Rows]:
    """The draft with its signature, and warm-up rows when zeros do not do. Raises Refusal."""
    described = [Described(one.name, one.type, one.shape) for one in session.get_outputs()]
    inputs = read_inputs([Described(one.name, one.type, one.shape) for one in session.get_inputs()])
    features = read_features(draft.features, inputs)
    zipmap = read_zipmap(described)
    manifest = msgspec.structs.replace(draft, inputs=inputs, features=features, zipmap=zipmap)
    names = [one.name for one in described]
    answers, warmup = _first_that_runs(session, names, manifest, rows, known_texts(parsed))
    mapped = {name: classes_of_maps(answer) for name, answer in zip(names, answers, strict=True) if name in zipmap}
    arrays = {name: np.asarray(a) for name, a in zip(names, answers, strict=True) if name not in zipmap}
    widths = {name: len(classes) for name, classes in mapped.items()}
    outputs = read_outputs(described, zipmap, widths, {name: array.ndim for name, array in arrays.items()})
    known = next(iter(mapped.values())).tolist() if mapped else class_labels(parsed)
    seen = [_as_seen(output, arrays.get(output.name)) for output in outputs]
    prediction = read_prediction(draft.prediction, seen, zipmap, known)
    known_rows = rows or warmup
    joining = try_joining(session, names, manifest, known_rows)
    return msgspec.structs.replace(
        manifest,
        outputs=outputs,
        prediction=prediction,
        joins=joining.least_rows > 0,
        least_rows=max(1, joining.least_rows),
        join_difference=joining.difference,
    ), warmup


def _first_that_runs(
    session: Any, names: list[str], manifest: Manifest, rows: Rows, texts: Sequence[str]
) -> tuple[list[Any], Rows]:
    """The answers of a smoke run, and the row that was needed when zeros do not run. Raises Refusal."""
    if rows and manifest.features:
        return _run_rows(session, names, manifest, rows), []
    if manifest.example:
        return _run_example(session, names, manifest), []
    failure: ExecutionError | None = None
    for tensors, row in _made_up_rows(manifest, texts):
        try:
            answers = run_session(session, names, tensors)
        except ExecutionError as error:
            failure = failure or error
        else:
            return answers, [row] if row else []
    if failure is not None and str(failure) == OUT_OF_MEMORY:
        raise Refusal(f"{OUT_OF_MEMORY} for a check ({_cause(failure)})")
    cause = "" if failure is None else f" ({_cause(failure)})"
    raise Refusal(
        f"the model does not run on made-up inputs{cause}; if it needs real ones, publish it with a reference sample "
        "of its rows, or where it takes no rows with an `example` of its inputs in the manifest"
    )


def _run_example(session: Any, names: list[str], manifest: Manifest) -> list[Any]:
    """The answers to the publisher's example. Raises Refusal."""
    if sum(math.prod(one.shape) for one in manifest.example) > MOST_EXAMPLE_ELEMENTS:
        raise Refusal(f"the example has more than {MOST_EXAMPLE_ELEMENTS} elements; take smaller inputs")
    try:
        return run_session(session, names, from_example(manifest))
    except InvalidInput as error:
        raise Refusal(f"manifest: {error}") from error
    except ExecutionError as error:
        raise Refusal(f"the model does not run on the manifest's example ({_cause(error)})") from error


def _run_rows(session: Any, names: list[str], manifest: Manifest, rows: Rows) -> list[Any]:
    """The answers to the last of the reference's rows, after all of them were run singly. Raises Refusal."""
    answers: list[Any] = []
    for number, row in enumerate(rows):
        try:
            answers = run_session(session, names, from_rows([row], manifest))
        except ExecutionError as error:
            raise Refusal(
                f"the model does not run on warm-up row {number} of the reference ({_cause(error)})"
            ) from error
        except (ValueError, TypeError, IndexError, OverflowError) as error:
            wanted = ", ".join(feature.name for feature in manifest.features[:20])
            raise Refusal(f"warm-up row {number} of the reference does not fit the columns {wanted}") from error
    return answers


def _made_up_rows(manifest: Manifest, texts: Sequence[str]) -> Iterator[tuple[Tensors, list[Any]]]:
    """Zeros (with no row), ones, then both with the categories that the model's encoders know."""
    for fill in (0, 1):
        row = [("" if _is_text(manifest, place) else fill) for place in range(len(manifest.features))]
        yield made_up(manifest, 1, fill), row if fill else []
    text_places = [place for place in range(len(manifest.features)) if _is_text(manifest, place)]
    if text_places and len(texts) >= len(text_places):
        by_place = dict(zip(text_places, texts, strict=False))
        for fill in (0, 1):
            row = [by_place.get(place, fill) for place in range(len(manifest.features))]
            yield from_rows([row], manifest), row


def _is_text(manifest: Manifest, place: int) -> bool:
    name = manifest.features[place].input
    return any(tensor.name == name and tensor.datatype == "BYTES" for tensor in manifest.inputs)


def _as_seen(output: Any, array: np.ndarray | None) -> Any:
    """The output with the width that a run of one row showed, for guessing what it means."""
    if array is None or array.ndim != 2 or len(output.shape) != 2 or output.shape[1] >= 0:
        return output
    return msgspec.structs.replace(output, shape=(output.shape[0], array.shape[1]))


def _cause(error: ExecutionError) -> str:
    """The runtime's own words for the publisher, cleaned: no status codes, no paths, one line."""
    text = " ".join(str(error.__cause__ or error).split())
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ", "", text)
    text = re.sub(r"(/[\w.+-]+){2,}/?(:\d+)?|\b[\w./]+\.(cc|h|cpp):\d+", "", text)
    text = re.sub(r"([\w*&:]+ )?\bonnxruntime::.*?\)\s+(?=[A-Za-z_])", "", text)  # the C++ function that complains
    return printable(text, 300).strip()


def _hint(error: ExecutionError) -> str:
    text = str(error.__cause__).lower()
    if "opset" in text or "ir version" in text or "ir_version" in text:
        return "; export with target_opset={'': 21, 'ai.onnx.ml': 3}"
    if "double" in text:
        return "; convert with 32-bit floats: to_onnx(model, X[:1].astype(numpy.float32))"
    return ""
