"""What a serving process and its runner process say to each other: length-prefixed msgpack, tensors as raw bytes.

A runner runs a model that nobody has proven yet: what it says is checked like a stranger's words (lengths, datatypes,
shapes), and nothing of it is ever executed. Knows neither sockets nor the runtime.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec
import numpy as np
from msgspec import Struct

from gateway.execution.tensors import BY_NUMPY, Tensors
from gateway.names import Outcome
from gateway.registry.manifest import Manifest

_LENGTH = struct.Struct(">I")
MOST_BYTES = 1 << 30
"""The longest frame; a longer one is taken for nonsense."""


class Packed(Struct, array_like=True, frozen=True):
    """One tensor. datatype: numpy's own short text. texts: the elements of a tensor of texts, else empty."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: bytes = b""
    texts: list[str] = []


class Start(Struct, frozen=True, kw_only=True):
    """The first words to a runner: which package to load.

    memory_bytes: what the version may use on top of the libraries themselves. yields: nobody waits for its answers, so
    it runs at the lowest priority.
    """

    manifest: Manifest
    directory: str
    memory_bytes: int
    yields: bool = False


class Ready(Struct, frozen=True, kw_only=True):
    """The runner's answer to `Start`. memory_bytes: by how much it grew. error: why it could not load; empty: it could.

    is_corrupt: the package is at fault, not the model.
    """

    cost_us: float = 0.0
    row_us: float = 0.0
    memory_bytes: int = 0
    error: str = ""
    is_corrupt: bool = False


class Ask(Struct, array_like=True, frozen=True):
    """One run. expires: on the machine's monotonic clock, which all its processes share; None: never."""

    number: int
    expires: float | None
    tensors: list[Packed]


class Told(Struct, array_like=True, frozen=True):
    """How one run ended. latency_us: the time that the model itself used."""

    number: int
    outcome: Outcome
    latency_us: int
    error: str
    tensors: list[Packed]


def pack(tensors: Tensors) -> list[Packed]:
    """The tensors as bytes. Raises ValueError for a datatype that the table of datatypes does not hold."""
    return [_packed(name, array) for name, array in tensors.items()]


def _packed(name: str, array: np.ndarray) -> Packed:
    if array.dtype.newbyteorder("=") not in BY_NUMPY:
        raise ValueError(f"{name}: a tensor of {array.dtype} can not be sent")
    if array.dtype.kind == "O":
        return Packed(name, "O", array.shape, b"", array.ravel().tolist())
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return Packed(name, native.dtype.str, array.shape, native.tobytes())


def unpack(tensors: list[Packed]) -> Tensors:
    """The arrays; those of numbers are read-only. Raises ValueError when bytes, shape and datatype do not fit."""
    return {one.name: _unpacked(one) for one in tensors}


def _unpacked(one: Packed) -> np.ndarray:
    if any(size < 0 for size in one.shape):
        raise ValueError(f"{one.name}: a negative size")
    try:
        datatype = np.dtype(one.datatype)
    except TypeError as error:
        raise ValueError(f"{one.name}: no such datatype") from error
    if datatype not in BY_NUMPY:
        raise ValueError(f"{one.name}: a tensor of {datatype} can not be sent")
    if datatype.kind == "O":
        texts = np.empty(len(one.texts), dtype=np.object_)
        texts[:] = one.texts
        return texts.reshape(one.shape)
    return np.frombuffer(one.data, datatype).reshape(one.shape)


def frame(message: object) -> bytes:
    """One message with its length."""
    body = msgspec.msgpack.encode(message)
    return _LENGTH.pack(len(body)) + body


class Frames:
    """Cuts a stream of bytes into messages."""

    def __init__(self) -> None:
        self._waiting = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that are complete now. Raises ValueError for a length that nobody sends."""
        waiting = self._waiting
        waiting += data
        start = 0
        try:
            while len(waiting) - start >= _LENGTH.size:
                length = _LENGTH.unpack_from(waiting, start)[0]
                if length > MOST_BYTES:
                    raise ValueError(f"a message of {length} bytes")
                behind = start + _LENGTH.size + length
                if len(waiting) < behind:
                    break
                body = bytes(memoryview(waiting)[start + _LENGTH.size : behind])
                start = behind
                yield body
        finally:
            del waiting[:start]
