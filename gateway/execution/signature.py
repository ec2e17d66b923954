"""A version's signature, read from the runtime and completed by what the publisher said.

Pure: descriptions of inputs and outputs in, manifest fields out. Everything that does not fit is a Refusal with a
sentence for the publisher. Must not run anything.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from gateway.execution.tensors import BY_NAME, BY_RUNTIME
from gateway.registry.manifest import Feature, PredictionSpec, Tensor

ZIPMAP_KEYS: Mapping[str, str] = {
    "seq(map(int64,tensor(float)))": "INT64",
    "seq(map(string,tensor(float)))": "BYTES",
}
TENSOR_NAME = re.compile(r"[A-Za-z0-9_.:/-]{1,200}")
"""What inputs and outputs may be called: they reach metrics, logs and pages."""
_FEATURE_NAME = re.compile(r"[^\x00-\x1f\x7f-\x9f<>\"'\\`]{1,200}")
_ARRAY_INPUT = "X"  # what skl2onnx calls the input of a plain array: no column's name


class Refusal(ValueError):
    """The signature can not be served; the text says why."""


class Described(NamedTuple):
    """An input or output as the runtime describes it; shape holds numbers, names or None for free dimensions."""

    name: str
    type: str
    shape: Sequence[Any]


def read_inputs(described: Sequence[Described]) -> tuple[Tensor, ...]:
    """The inputs. Raises Refusal for a type without a protocol datatype."""
    return tuple(_tensor(one, "input") for one in described)


def read_zipmap(described: Sequence[Described]) -> dict[str, str]:
    """For each output that is a sequence of maps, the name its columns get: `probabilities`, then `probabilities_2`."""
    taken = {one.name for one in described}
    names: dict[str, str] = {}
    for one in described:
        if one.type in ZIPMAP_KEYS:
            number = 1
            while taken & {_numbered("probabilities", number), _numbered("classes", number)}:
                number += 1
            names[one.name] = _numbered("probabilities", number)
            taken |= {_numbered("probabilities", number), _numbered("classes", number)}
    return names


def read_outputs(
    described: Sequence[Described], zipmap: Mapping[str, str], widths: Mapping[str, int], ranks: Mapping[str, int]
) -> tuple[Tensor, ...]:
    """What is answered. widths: classes of each ZipMap output; ranks: dimensions of each tensor in a real run.

    Raises Refusal for a type without a protocol datatype.
    """
    outputs: list[Tensor] = []
    for one in described:
        if one.name in zipmap:
            columns = zipmap[one.name]
            classes = columns.replace("probabilities", "classes")
            outputs.append(Tensor(name=columns, datatype="FP32", shape=(-1, widths[one.name])))
            outputs.append(Tensor(name=classes, datatype=ZIPMAP_KEYS[one.type], shape=(widths[one.name],)))
        else:
            tensor = _tensor(one, "output")
            rank = ranks.get(one.name, len(tensor.shape))
            fits = rank == len(tensor.shape)
            outputs.append(tensor if fits else msgspec.structs.replace(tensor, shape=(-1,) * rank))
    return tuple(outputs)


def read_features(given: Sequence[Feature], inputs: Sequence[Tensor]) -> tuple[Feature, ...]:
    """The features in signature order, each with its input and column; empty when records by name are not possible.

    given: the publisher's, in column order; none: `f0` ... for one table, the inputs' names when each is one column,
    `<input>_0` ... for several tables. Raises Refusal.
    """
    columns = _columns(inputs)
    if columns is None:
        if given:
            raise Refusal("features are given, but the inputs are not tables of a known number of columns")
        return ()
    if not given:
        return tuple(Feature(name=name, kind=_kind(t), input=t.name, position=p) for name, t, p in columns)
    if len(given) != len(columns):
        raise Refusal(f"{len(given)} features are given, the model takes {len(columns)} columns")
    if len({feature.name for feature in given}) != len(given):
        raise Refusal("two features have the same name")
    by_name = {name: (name, tensor, position) for name, tensor, position in columns}
    placed = _placed(given, columns)
    if placed is None:
        is_named = {feature.name for feature in given} == by_name.keys()
        placed = [by_name[feature.name] for feature in given] if is_named else columns
    return tuple(_completed(feature, t, p) for feature, (_, t, p) in zip(given, placed, strict=True))


def read_prediction(
    given: PredictionSpec | None, outputs: Sequence[Tensor], zipmap: Mapping[str, str], classes: Sequence[str | int]
) -> PredictionSpec | None:
    """How to read the outputs: the publisher's word, completed, or a guess; None when nothing can be told.

    outputs: with real widths. classes: as found in the model. Raises Refusal when the publisher names no output.
    """
    guess = _guess(outputs, zipmap, classes)
    if given is None:
        return guess
    names = {tensor.name for tensor in outputs}
    for name in (given.output, given.probabilities or given.output):
        if name not in names:
            raise Refusal(f"prediction names output {name!r}; the model has {', '.join(sorted(names))}")
    if given.kind not in ("class", "score", "value"):
        raise Refusal(f"prediction.kind is {given.kind!r}; allowed are class, score and value")
    if given.kind == "class" and guess is not None and guess.kind == "class" and not given.classes:
        same = guess.output == given.output
        return msgspec.structs.replace(given, classes=guess.classes if same else ())
    return given


def _guess(outputs: Sequence[Tensor], zipmap: Mapping[str, str], classes: Sequence[str | int]) -> PredictionSpec | None:
    answers = set(zipmap.values()) | {name.replace("probabilities", "classes") for name in zipmap.values()}
    plain = [tensor for tensor in outputs if tensor.name not in answers]
    labels = [t for t in plain if t.datatype in ("INT64", "INT32", "BYTES") and _is_column(t)]
    floats = [t for t in plain if BY_NAME[t.datatype].is_float]
    if len(labels) == 1 and len(zipmap) == 1:
        name = next(iter(zipmap.values()))
        return PredictionSpec(output=labels[0].name, kind="class", classes=tuple(classes), probabilities=name)
    if len(labels) == 1 and not zipmap:
        tables = [t for t in floats if len(t.shape) == 2 and t.shape[1] != 1]
        if len(tables) == 1:
            known = tuple(classes) if tables[0].shape[1] in (-1, len(classes)) else ()
            return PredictionSpec(output=labels[0].name, kind="class", classes=known, probabilities=tables[0].name)
        if len(floats) == 1 and _is_column(floats[0]):
            return PredictionSpec(output=floats[0].name, kind="score")
        return PredictionSpec(output=labels[0].name, kind="class", classes=tuple(classes))
    if not labels and not zipmap and len(plain) == 1 and floats and _is_column(floats[0]):
        return PredictionSpec(output=floats[0].name, kind="value")
    return None


def _columns(inputs: Sequence[Tensor]) -> list[tuple[str, Tensor, int]] | None:
    """Default name, input and column (-1: the input is the column) of every column; None: not all are tables."""
    for tensor in inputs:
        is_table = len(tensor.shape) == 2 and tensor.shape[0] in (-1, 1) and tensor.shape[1] > 0
        if not is_table and tensor.shape not in ((-1,), (1,)):
            return None
    if not inputs:
        return None
    singles = all(len(tensor.shape) == 1 or tensor.shape[1] == 1 for tensor in inputs)
    if singles and [tensor.name for tensor in inputs] != [_ARRAY_INPUT]:
        return [(tensor.name, tensor, -1) for tensor in inputs]
    columns: list[tuple[str, Tensor, int]] = []
    for tensor in inputs:
        width = tensor.shape[1] if len(tensor.shape) == 2 else 1
        start = "f" if len(inputs) == 1 else f"{tensor.name}_"
        columns += [(f"{start}{column}", tensor, column) for column in range(width)]
    return columns


def _placed(
    given: Sequence[Feature], columns: Sequence[tuple[str, Tensor, int]]
) -> list[tuple[str, Tensor, int]] | None:
    """The columns the publisher named himself by input and position; None when he did not."""
    if not all(feature.input for feature in given):
        return None
    known = {(tensor.name, position): (name, tensor, position) for name, tensor, position in columns}
    known |= {(t.name, max(p, 0)): (name, t, p) for name, t, p in columns}
    placed = [known.get((feature.input, feature.position)) for feature in given]
    found = [column for column in placed if column is not None]
    if len(found) != len(columns) or len({(t.name, p) for _, t, p in found}) != len(columns):
        raise Refusal("the features' inputs and positions do not name each column of the model once")
    return found


def _completed(feature: Feature, tensor: Tensor, position: int) -> Feature:
    if not _FEATURE_NAME.fullmatch(feature.name):
        raise Refusal("a feature's name is empty, longer than 200 characters or holds quotes, brackets or line ends")
    if feature.kind not in ("numeric", "categorical"):
        raise Refusal(f"feature {feature.name}: kind is {feature.kind!r}; allowed are numeric and categorical")
    is_text = tensor.datatype == "BYTES"
    if is_text and (feature.low is not None or feature.high is not None):
        raise Refusal(f"feature {feature.name}: has a range, but the model takes a text there")
    if any(isinstance(value, str) != is_text for value in feature.categories):
        wanted = "texts" if is_text else "numbers"
        raise Refusal(f"feature {feature.name}: its categories must be {wanted}, as the model takes them")
    if feature.low is not None and feature.high is not None and feature.low > feature.high:
        raise Refusal(f"feature {feature.name}: low is above high")
    kind = "categorical" if is_text else feature.kind
    return msgspec.structs.replace(feature, kind=kind, input=tensor.name, position=position)


def _tensor(one: Described, side: str) -> Tensor:
    datatype = BY_RUNTIME.get(one.type)
    if datatype is None:
        raise Refusal(f"{side} {one.name} has type {one.type}, which no client can send or read here")
    shape = tuple(size if isinstance(size, int) and size >= 0 else -1 for size in one.shape)
    return Tensor(name=one.name, datatype=datatype.name, shape=shape)


def _kind(tensor: Tensor) -> str:
    return "categorical" if tensor.datatype == "BYTES" else "numeric"


def _is_column(tensor: Tensor) -> bool:
    """True for one value a row."""
    return len(tensor.shape) == 1 or (len(tensor.shape) == 2 and tensor.shape[1] == 1)


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}_{number}"
