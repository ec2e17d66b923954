"""Inputs that come as tensors: do they fit the signature, how many rows are they, what does the journal keep."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gateway.errors import Fault, InvalidInput
from gateway.execution.column import WHOLE
from gateway.execution.judge import refused
from gateway.execution.tensors import BY_NUMPY, MOST_FAULTS, Tensors, from_json, shape_of, without_non_finite
from gateway.registry.manifest import Tensor


def signature_faults(inputs: Sequence[Tensor], tensors: Tensors) -> list[Fault]:
    """What does not fit: names, datatypes, shapes. `/inputs/<place>` names a tensor."""
    known = {tensor.name: tensor for tensor in inputs}
    faults: list[Fault] = []
    for place, (name, array) in enumerate(tensors.items()):
        pointer = f"/inputs/{place}"
        tensor = known.get(name)
        datatype = BY_NUMPY.get(array.dtype)
        if tensor is None:
            faults.append(Fault(f"{pointer}/name", f"is no input of this model; inputs are {', '.join(known)}"))
        elif datatype is None or datatype.name != tensor.datatype:
            faults.append(Fault(f"{pointer}/datatype", f"{name} takes {tensor.datatype}"))
        else:
            faults += [Fault(f"{pointer}/shape", detail) for detail in shape_faults(tensor, array.shape)]
    faults += [Fault("/inputs", f"{name} is missing") for name in known if name not in tensors]
    return faults[:MOST_FAULTS]


def shape_faults(tensor: Tensor, shape: tuple[int, ...]) -> list[str]:
    """Why the shape does not fit the signature; empty: it does."""
    fits = len(shape) == len(tensor.shape) and all(
        wanted in (-1, size) for wanted, size in zip(tensor.shape, shape, strict=True)
    )
    return [] if fits else [f"{tensor.name} has shape {list(shape)}, the model takes {list(tensor.shape)} (-1 is free)"]


def nested(tensor: Tensor, data: Any, pointer: str) -> np.ndarray:
    """Nested lists as an array of the tensor's type. Raises InvalidInput."""
    shape = shape_of(data)
    if len(shape) != len(tensor.shape):
        detail = f"is {len(shape)} lists deep, the model takes {len(tensor.shape)}: shape {list(tensor.shape)}"
        raise refused([Fault(pointer, detail)])
    try:
        return from_json(tensor.datatype, shape, data, pointer)
    except InvalidInput as error:  # there is no `data` member in this body
        start = f"{pointer}/data"
        raise refused([Fault(pointer + f.pointer.removeprefix(start), f.detail) for f in error.faults]) from error


def rows_of(inputs: Sequence[Tensor], tensors: Tensors) -> int:
    """The common free first dimension; 1 when there is none."""
    heights = {tensors[tensor.name].shape[0] if tensor.shape[:1] == (-1,) else None for tensor in inputs}
    height = heights.pop() if len(heights) == 1 else None
    return 1 if height is None else height


def lists(tensors: Tensors) -> dict[str, Any]:
    """Nested lists for the journal; numbers that are not finite are None."""
    return {name: without_non_finite(array).tolist() for name, array in tensors.items()}


def non_finite_flags(tensors: Tensors) -> tuple[str, ...]:
    """What the data of inputs without features lacks: NaN is missing, an infinite number is outside every range."""
    floats = [array for array in tensors.values() if array.dtype.kind == "f" and not np.isfinite(array).all()]
    flags = {"missing": np.isnan, "out_of_range": np.isinf}
    return tuple(flag for flag, is_such in flags.items() if any(is_such(array).any() for array in floats))


def written(inputs: dict[str, Any], tensors: Tensors) -> dict[str, Any]:
    """The caller's own lists for the journal; of a tensor with whole numbers that it can not hold, the tensor's."""
    huge = {name: array for name, array in tensors.items() if array.dtype.kind == "f" and _is_huge(array)}
    return dict(inputs) | lists(huge)


def _is_huge(array: np.ndarray) -> bool:
    """Compared in 64 bits: FP16 can not hold the limit itself."""
    return bool((np.abs(array).astype(np.float64) >= WHOLE).any())
