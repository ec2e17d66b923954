"""Writing the answer of infer: JSON, or JSON followed by the outputs that were wanted binary.

Role, reason and prediction id come back as response parameters, what the policy let through as `flags`. A number that
is not finite is null in JSON and counted in `non_finite`; binary data carries it exactly.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import numpy as np

from gateway.api.door import Sent, answer_headers
from gateway.api.inference_body import Infer, Parameter
from gateway.errors import Fault, InvalidInput
from gateway.execution.binary import to_binary
from gateway.execution.tensors import BY_NUMPY, to_json
from gateway.serving.request import Answer

_BINARY = (b"content-type", b"application/octet-stream")


def check_wanted(asked: Infer, there: Iterable[str]) -> None:
    """Refuse outputs that do not exist. Raises InvalidInput naming the first."""
    known = list(there)
    for number, name in enumerate(asked.wanted or ()):
        if name not in known:
            pointer, detail = (
                f"/outputs/{number}/name",
                f"{name[:100]!r} is not an output; there are {', '.join(known)}",
            )
            raise InvalidInput(f"{pointer} {detail}", [Fault(pointer, detail)])


def infer_answer(answer: Answer, asked: Infer) -> Sent:
    """The protocol's response. Raises InvalidInput when an output that was asked for does not exist."""
    arrays = answer.outputs
    check_wanted(asked, arrays)
    wanted = asked.wanted or dict.fromkeys(arrays, asked.is_binary)
    lists, non_finite = to_json({name: arrays[name].ravel() for name, binary in wanted.items() if not binary})
    parts: list[bytes] = []
    outputs: list[dict[str, Any]] = []
    for name in wanted:
        array = arrays[name]
        output: dict[str, Any] = {"name": name, "datatype": _datatype(array), "shape": array.shape}
        if name in lists:
            output["data"] = lists[name]
        else:
            parts.append(to_binary(array))
            output["parameters"] = {"binary_data_size": len(parts[-1])}
        outputs.append(output)
    text = msgspec.json.encode(_head(answer, asked, non_finite) | {"outputs": outputs})
    headers = answer_headers(answer)
    if not parts:
        return 200, text, headers
    length = (b"inference-header-content-length", str(len(text)).encode())
    return 200, b"".join((text, *parts)), (_BINARY, length, *headers)


def _head(answer: Answer, asked: Infer, non_finite: int) -> dict[str, Any]:
    parameters: dict[str, Parameter] = {
        "role": str(answer.role),
        "reason": str(answer.reason),
        "prediction_id": answer.id,
    }
    if answer.flags:
        parameters["flags"] = ",".join(answer.flags)
    if non_finite:
        parameters["non_finite"] = non_finite
    head: dict[str, Any] = {"model_name": answer.model}
    if answer.version is not None:
        head["model_version"] = str(answer.version)
    return head | {"id": asked.id or answer.id, "parameters": parameters}


def _datatype(array: np.ndarray) -> str:
    known = BY_NUMPY.get(array.dtype)
    return known.name if known is not None else "BYTES"
