"""What a model file says before the runtime sees it: reasons to refuse it, and facts that only the graph knows.

Walks every message of the protobuf (graphs, subgraphs, functions, attributes, sparse tensors, training graphs), so
nothing hides in a place that was forgotten. Never resolves a path. Pure but for the memory the parser needs; run it in
a limited process. Source of the rules: public advisories on ONNX path handling (string checks of locations were
bypassed several times, so any external data is refused) and on cycles of model-local functions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import onnx
from google.protobuf.message import DecodeError, Message  # type: ignore[import-untyped]

from gateway.execution.signature import TENSOR_NAME

_STANDARD_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml"})
_CONTRIB_DOMAIN = "com.microsoft"
_CONTRIB_OPERATORS = frozenset(
    {
        *("Attention", "BiasGelu", "DequantizeLinear", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul"),
        *("EmbedLayerNormalization", "FastGelu", "FusedConv", "FusedGemm", "FusedMatMul", "Gelu", "MatMulInteger16"),
        *("MatMulIntegerToFloat", "MatMulNBits", "MultiHeadAttention", "NhwcMaxPool", "QAttention", "QGemm"),
        *("QLinearAdd", "QLinearAveragePool", "QLinearConcat", "QLinearConv", "QLinearGlobalAveragePool"),
        *("QLinearLeakyRelu", "QLinearMul", "QLinearSigmoid", "QLinearSoftmax", "QLinearWhere", "QuantizeLinear"),
        *("QuickGelu", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization", "Trilu"),
    }
)
_LABEL_ATTRIBUTES = ("classlabels_int64s", "classlabels_strings", "classlabels_ints")
_ML_DOMAIN = "ai.onnx.ml"


def parse(model: bytes) -> onnx.ModelProto | None:
    """The model's messages; None when the bytes are no ONNX model."""
    try:
        parsed = onnx.ModelProto.FromString(model)
    except DecodeError:
        return None
    return parsed if parsed.HasField("graph") and parsed.opset_import else None


def reasons_against(model: onnx.ModelProto) -> list[str]:
    """Why the model may not be served, as sentences; empty when nothing speaks against it."""
    reasons: dict[str, None] = {}
    functions = {(function.domain, function.name) for function in model.functions}
    for message in _messages(model):
        if isinstance(message, onnx.TensorProto):
            if message.data_location == onnx.TensorProto.EXTERNAL or message.external_data:
                reasons["the model keeps weights in another file; save it as one file without external data"] = None
        elif isinstance(message, onnx.NodeProto) and not _is_known(message, functions):
            operator = printable(f"{message.domain}::{message.op_type}")
            reasons[f"operator {operator} is not allowed: only standard ONNX and ONNX-ML operators run here"] = None
    if _has_cycle(model):
        reasons["the model's local functions call each other in a circle"] = None
    for kind, values in (("input", model.graph.input), ("output", model.graph.output)):
        for value in values:
            if not TENSOR_NAME.fullmatch(value.name):
                shown = printable(value.name)
                reasons[f"{kind} '{shown}' has a name with other characters than letters, digits and _ . : / -"] = None
            elif (
                kind == "input" and value.type.HasField("tensor_type") and not value.type.tensor_type.HasField("shape")
            ):
                reasons[f"input {value.name} declares no shape; export the model with the number of dimensions"] = None
    return list(reasons)[:20]


def class_labels(model: onnx.ModelProto) -> tuple[str | int, ...]:
    """The class labels in the attributes of the last ML operator that has some, else of an initializer `classes...`."""
    for node in reversed(model.graph.node):
        if node.domain == _ML_DOMAIN:
            for attribute in node.attribute:
                if attribute.name in _LABEL_ATTRIBUTES and (attribute.ints or attribute.strings):
                    return tuple(attribute.ints) or _texts(attribute.strings)
    for tensor in model.graph.initializer:
        if tensor.name.startswith("classes") and len(tensor.dims) == 1 and not tensor.external_data:
            if tensor.data_type == onnx.TensorProto.STRING:
                return _texts(tensor.string_data)
            if tensor.data_type in (onnx.TensorProto.INT64, onnx.TensorProto.INT32):
                return tuple(int(value) for value in onnx.numpy_helper.to_array(tensor))
    return ()


def known_texts(model: onnx.ModelProto) -> list[str]:
    """The first category of each one-hot encoder of texts, in node order: sklearn's column order."""
    found: list[str] = []
    for node in model.graph.node:
        if node.op_type == "OneHotEncoder":
            found += [text for a in node.attribute if a.name == "cats_strings" for text in _texts(a.strings[:1])]
    return found


def repaired(model: onnx.ModelProto) -> onnx.ModelProto | None:
    """The same model with the declared types of ML outputs set right; None when there is nothing to set right.

    The ML operators answer 32-bit floats, yet `skl2onnx.to_onnx` given 64-bit data declares doubles at their outputs
    and feeds doubles to ZipMap: no runtime loads that (seen with skl2onnx 1.20, onnxruntime 1.31).
    """
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    graph = fixed.graph
    producers = {name: node for node in graph.node for name in node.output}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type == "ZipMap" and node.input:
            cast = f"{node.input[0]}__as_float"
            nodes.append(onnx.helper.make_node("Cast", [node.input[0]], [cast], to=onnx.TensorProto.FLOAT))
            node.input[0] = cast
        nodes.append(node)
    declared = [_declared_float(value, producers.get(value.name)) for value in graph.output]
    if len(nodes) == len(graph.node) and not any(declared):
        return None
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(copies)
    return fixed


def printable(text: str, most: int = 80) -> str:
    """The text cut and without anything that could break a line, a page or a log."""
    return re.sub(r"[^\w .,:;/()\[\]=+*-]", "?", text[:most], flags=re.ASCII)


def _messages(root: Message) -> Iterator[Message]:
    waiting: list[Message] = [root]
    while waiting:
        message = waiting.pop()
        yield message
        for field, value in message.ListFields():
            if field.type == field.TYPE_MESSAGE:
                if isinstance(value, Message):
                    waiting.append(value)
                else:
                    waiting.extend(value)


def _is_known(node: onnx.NodeProto, functions: set[tuple[str, str]]) -> bool:
    if node.domain in _STANDARD_DOMAINS or (node.domain, node.op_type) in functions:
        return True
    return node.domain == _CONTRIB_DOMAIN and node.op_type in _CONTRIB_OPERATORS


def _has_cycle(model: onnx.ModelProto) -> bool:
    """True when a local function reaches itself; found by taking away functions that call no other."""
    names = {(function.domain, function.name) for function in model.functions}
    calls = {
        (function.domain, function.name): {
            (node.domain, node.op_type)
            for node in _messages(function)
            if isinstance(node, onnx.NodeProto) and (node.domain, node.op_type) in names
        }
        for function in model.functions
    }
    while calls:
        leaves = [name for name, called in calls.items() if not called & calls.keys()]
        if not leaves:
            return True
        for name in leaves:
            del calls[name]
    return False


def _declared_float(value: Any, producer: onnx.NodeProto | None) -> bool:
    """Correct an output's declared type from double to float when an ML operator makes it; True when it was wrong."""
    if producer is None or producer.domain != _ML_DOMAIN:
        return False
    kind = value.type
    tensor = (
        kind.sequence_type.elem_type.map_type.value_type.tensor_type
        if producer.op_type == "ZipMap"
        else kind.tensor_type
    )
    if tensor.elem_type != onnx.TensorProto.DOUBLE:
        return False
    tensor.elem_type = onnx.TensorProto.FLOAT
    return True


def _texts(values: Any) -> tuple[str, ...]:
    return tuple(value.decode("utf-8", "replace") for value in values)
