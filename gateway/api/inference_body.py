"""Reading the body of infer: JSON, JSON followed by binary tensors, or one raw tensor alone.

What is wrong is named by its place in the JSON. Knows nothing of routes or versions: a raw body asks its caller for
the signature. Source: open-inference-protocol, inference_rest.md and the binary tensor data extension.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from gateway.api.body import NESTED, decode, strict
from gateway.errors import Fault, InvalidInput
from gateway.execution.binary import from_binary, from_raw
from gateway.execution.tensors import Tensors, from_json
from gateway.registry.manifest import Tensor

HEADER_LENGTH = b"inference-header-content-length"
"""The header that says how many bytes of a body are JSON; what follows are the tensors."""

Parameter = str | int | float | bool
Parameters = dict[str, Parameter]

_ELSEWHERE = ("shared_memory_region", "classification")
"""Parameters of extensions that are not served: ignoring them would answer another question."""


class InputTensor(msgspec.Struct):
    """One input as sent; `data` is nested or flat, or absent when the tensor is binary. The shape is the truth."""

    name: str
    shape: list[int]
    datatype: str
    data: NESTED | msgspec.UnsetType = msgspec.UNSET
    parameters: Parameters | None = None


class OutputWanted(msgspec.Struct):
    """One output by name."""

    name: str
    parameters: Parameters | None = None


class InferBody(msgspec.Struct):
    """The JSON of infer. Unknown fields are left alone: the protocol has extensions."""

    inputs: list[InputTensor]
    id: str | None = None
    parameters: Parameters | None = None
    outputs: list[OutputWanted] | None = None


@dataclass(frozen=True, slots=True)
class Infer:
    """A request that was read. wanted: outputs by name, each with whether it is wanted binary; none: all of them.

    is_binary: how outputs are wanted that are not named.
    """

    tensors: Tensors
    id: str | None = None
    key: str | None = None
    wanted: dict[str, bool] | None = None
    is_binary: bool = False


_DECODER = msgspec.json.Decoder(InferBody)


def read_infer(body: bytes, header_length: bytes | None, inputs: Callable[[], Sequence[Tensor]]) -> Infer:
    """The request in a plain body. header_length: that header's value. inputs: the signature, for a raw body.

    Raises InvalidInput naming the place.
    """
    length = len(body) if header_length is None else _length(header_length, len(body))
    if header_length is not None and length == 0:
        return Infer(_raw(memoryview(body), inputs()), is_binary=True)
    text = body if length == len(body) else body[:length]
    asked = decode(_DECODER, text)
    if text.count(b":") != _keys(asked):
        strict(text)
    parameters = asked.parameters or {}
    key = parameters.get("routing_key")
    is_binary = _flag(parameters, "binary_data_output", "", default=False)
    return Infer(
        tensors=_tensors(asked.inputs, memoryview(body)[length:]),
        id=asked.id or None,
        key=None if key is None else str(key),
        wanted=_wanted(asked.outputs, is_binary) if asked.outputs else None,
        is_binary=is_binary,
    )


def _length(header: bytes, size: int) -> int:
    place = "header Inference-Header-Content-Length"
    if not header.isdigit() or len(header) > 15:
        raise _invalid(place, "must be a number of bytes")
    if int(header) > size:
        raise _invalid(place, f"is {int(header)}, the body has {size} bytes")
    return int(header)


def _raw(data: memoryview, inputs: Sequence[Tensor]) -> Tensors:
    if len(inputs) != 1:
        raise _invalid("the raw body", f"fills one input, this model has {len(inputs)}; send a JSON header before it")
    return {inputs[0].name: from_raw(inputs[0], data, "the raw body")}


def _tensors(inputs: list[InputTensor], data: memoryview) -> Tensors:
    """The arrays by name; binary ones are taken from `data` in the order of the inputs."""
    tensors: Tensors = {}
    start = 0
    for number, sent in enumerate(inputs):
        pointer = f"/inputs/{number}"
        if sent.name in tensors:
            raise _invalid(f"{pointer}/name", f"{sent.name[:100]!r} is given twice")
        parameters = sent.parameters or {}
        _refuse_elsewhere(parameters, pointer)
        if "binary_data_size" in parameters:
            end = start + _size(sent, parameters["binary_data_size"], len(data) - start, pointer)
            tensors[sent.name] = from_binary(sent.datatype, sent.shape, data[start:end], pointer)
            start = end
        elif sent.data is msgspec.UNSET:
            raise _invalid(f"{pointer}/data", "is required, or the parameter binary_data_size and binary data")
        else:
            tensors[sent.name] = from_json(sent.datatype, sent.shape, sent.data, pointer)
    if start != len(data):
        raise _invalid("the body", f"has {len(data) - start} bytes of binary data that no input takes")
    return tensors


def _size(sent: InputTensor, size: Parameter, left: int, pointer: str) -> int:
    place = f"{pointer}/parameters/binary_data_size"
    if sent.data is not msgspec.UNSET:
        raise _invalid(place, "says that the data is binary, and there is `data` too")
    if type(size) is not int or size < 0:
        raise _invalid(place, "must be a number of bytes")
    if size > left:
        raise _invalid(place, f"is {size}, the body has {left} bytes left after its JSON and the inputs before")
    return size


def _wanted(outputs: list[OutputWanted], is_binary: bool) -> dict[str, bool]:
    wanted: dict[str, bool] = {}
    for number, output in enumerate(outputs):
        pointer = f"/outputs/{number}"
        if output.name in wanted:
            raise _invalid(f"{pointer}/name", f"{output.name[:100]!r} is asked for twice")
        parameters = output.parameters or {}
        _refuse_elsewhere(parameters, pointer)
        wanted[output.name] = _flag(parameters, "binary_data", pointer, default=is_binary)
    return wanted


def _flag(parameters: Parameters, name: str, pointer: str, *, default: bool) -> bool:
    value = parameters.get(name, default)
    if not isinstance(value, bool):
        raise _invalid(f"{pointer}/parameters/{name}", "must be true or false")
    return value


def _refuse_elsewhere(parameters: Parameters, pointer: str) -> None:
    for name in _ELSEWHERE:
        if name in parameters:
            raise _invalid(f"{pointer}/parameters/{name}", "belongs to an extension that is not served here")


def _keys(asked: InferBody) -> int:
    """How many keys a body without extras has; another count only means that it is read a second time."""
    inputs = sum(3 + (one.data is not msgspec.UNSET) + _of(one.parameters) for one in asked.inputs)
    outputs = sum(1 + _of(one.parameters) for one in asked.outputs or ()) + (asked.outputs is not None)
    return 1 + inputs + outputs + (asked.id is not None) + _of(asked.parameters)


def _of(parameters: Parameters | None) -> int:
    return 0 if parameters is None else len(parameters) + 1


def _invalid(pointer: str, detail: str) -> InvalidInput:
    return InvalidInput(f"{pointer} {detail}", [Fault(pointer, detail)])
