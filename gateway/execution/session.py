"""A version loaded into the ONNX runtime: checked, warmed up, measured, ready to run.

One thread for each run, so that many versions share the cores without a fight. Everything the runtime raises ends
here: callers see ExecutionError with a text of the catalogue below, never the runtime's own words. `run` may be called
from several threads at once.
"""

from __future__ import annotations

import ctypes
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime
from msgspec import Struct
from onnxruntime.capi import onnxruntime_pybind11_state as runtime_errors

from gateway.errors import CorruptPackage, ExecutionError, InvalidInput
from gateway.execution.tensors import Tensors, from_example, from_rows, made_up
from gateway.names import VersionId
from gateway.registry.manifest import Manifest
from gateway.registry.package import MODEL_FILE, WARMUP_FILE, read_files
from gateway.registry.reference import REFERENCE_FILE

CAN_NOT_RUN = "the model failed on these inputs"
WRONG_INPUTS = "the model does not take inputs of this name, type or shape"
OUT_OF_MEMORY = "the model needs more memory than there is"
NOT_LOADED = "the version was unloaded"
CAN_NOT_LOAD = "the runtime can not load the model"

RUNTIME_ERRORS: tuple[type[Exception], ...] = tuple(
    error for error in vars(runtime_errors).values() if isinstance(error, type) and issubclass(error, Exception)
)
"""The runtime's exceptions have no common parent of their own."""

_INPUT_ERRORS: tuple[type[Exception], ...] = (runtime_errors.InvalidArgument, ValueError, TypeError)
_RUN_ERRORS: tuple[type[Exception], ...] = (
    *RUNTIME_ERRORS,
    RuntimeError,
    ValueError,
    TypeError,
    MemoryError,
    OverflowError,
)
_WARM_UP_SECONDS = 1.0
_JOINED_ROWS = 17
"""So many rows tell what a further row costs."""
_JOINED_RUNS = 8
"""Runs of so many rows that are timed: a load should not keep the core from those who are served."""
_FATAL = 4


class Stop:
    """Ends a run from another thread. It acts between the nodes of a graph: one long operator is not cut short."""

    __slots__ = ("options",)

    def __init__(self) -> None:
        self.options = onnxruntime.RunOptions()

    def set(self) -> None:
        """End the run, or the next one that gets this stop."""
        self.options.terminate = True

    @property
    def is_set(self) -> bool:
        """True once the run was told to end."""
        return bool(self.options.terminate)


class LoadedVersion:
    """One version, ready to run. Immutable but for `close`."""

    __slots__ = ("_classes", "_least_rows", "_names", "_session", "_zipmap", "cost_us", "manifest", "row_us")

    def __init__(
        self,
        manifest: Manifest,
        session: Any,
        classes: Mapping[str, np.ndarray],
        cost_us: float,
        row_us: float = 0.0,
    ) -> None:
        """session: an InferenceSession. classes: for each ZipMap output the classes in column order.

        cost_us: measured for a run of one row. row_us: what each further row of a joined run adds.
        """
        self.manifest = manifest
        self.cost_us = cost_us
        self.row_us = row_us
        self._least_rows = manifest.least_rows
        self._session = session
        self._classes = dict(classes)
        self._zipmap = dict(manifest.zipmap)
        self._names: list[str] = [output.name for output in session.get_outputs()]

    @property
    def version(self) -> VersionId:
        """The version's name."""
        return self.manifest.version

    def run(self, tensors: Tensors, stop: Stop | None = None) -> Tensors:
        """The outputs, as `manifest.outputs` lists them. Raises ExecutionError with a text of the catalogue."""
        session = self._session
        if session is None:
            raise ExecutionError(NOT_LOADED)
        if self._least_rows > 1:
            answers = run_at_least(self._least_rows, session, self._names, tensors, stop)
        else:
            answers = run_session(session, self._names, tensors, stop)
        if not self._zipmap:
            return dict(zip(self._names, answers, strict=True))
        return self._without_maps(answers)

    def _without_maps(self, answers: Sequence[Any]) -> Tensors:
        outputs: Tensors = {}
        for name, answer in zip(self._names, answers, strict=True):
            columns = self._zipmap.get(name)
            if columns is None:
                outputs[name] = answer
            else:
                outputs[columns] = columns_of_maps(answer, len(self._classes[name]))
                outputs[classes_name(columns)] = self._classes[name]
        return outputs

    def close(self) -> None:
        """Give the session back; runs under way finish, later ones raise ExecutionError."""
        self._session = None


def load(
    manifest: Manifest,
    directory: Path,
    warm_up_rows: int = 32,
    nanoseconds: Callable[[], int] = time.perf_counter_ns,
) -> LoadedVersion:
    """Check every file, make the session, warm it up and measure it.

    manifest: the one the registry gave; its digest must be that of the package. warm_up_rows: single-row runs, fewer
    when they take longer than a second together. Raises CorruptPackage and ExecutionError.
    """
    found, files = read_files(directory)
    if found.digest != manifest.digest:
        raise CorruptPackage(f"{directory.name}: holds another package than {manifest.version} (digests differ)")
    session = open_session(files[MODEL_FILE])
    rows = _warm_up_tensors(session, manifest, files)
    names = [output.name for output in session.get_outputs()]
    answers = run_session(session, names, rows[0])
    classes = {
        name: classes_of_maps(answer) for name, answer in zip(names, answers, strict=True) if name in manifest.zipmap
    }
    unmeasured = LoadedVersion(manifest, session, classes, 0.0)
    cost_us = _measure(unmeasured, rows, warm_up_rows, nanoseconds)
    row_us = 0.0
    if manifest.joins or manifest.join_difference is not None:
        table = {name: np.concatenate([rows[0][name]] * _JOINED_ROWS) for name in rows[0]}
        row_us = max(0.0, _measure(unmeasured, [table], min(warm_up_rows, _JOINED_RUNS), nanoseconds) - cost_us) / (
            _JOINED_ROWS - 1
        )
    return LoadedVersion(manifest, session, classes, cost_us, row_us)


def open_session(model: bytes) -> Any:
    """An InferenceSession with one thread, from bytes alone. Raises ExecutionError chained to the runtime's error."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL
    options.use_deterministic_compute = True
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except MemoryError as error:
        raise ExecutionError(OUT_OF_MEMORY) from error
    except _RUN_ERRORS as error:
        raise ExecutionError(CAN_NOT_LOAD) from error


def run_session(session: Any, names: list[str], tensors: Tensors, stop: Stop | None = None) -> list[Any]:
    """The raw answers of these outputs. Raises ExecutionError chained to the runtime's error."""
    try:
        answers: list[Any] = session.run(names, tensors, None if stop is None else stop.options)
    except MemoryError as error:
        raise ExecutionError(OUT_OF_MEMORY) from error
    except _RUN_ERRORS as error:
        raise ExecutionError(_text_of(error)) from error
    return answers


def run_at_least(least_rows: int, session: Any, names: list[str], tensors: Tensors, stop: Stop | None = None) -> Any:
    """`run_session` with no fewer rows than this: the last row is repeated, its answers are left out again.

    Only for versions whose outputs all have a row for each row of the inputs. Raises ExecutionError.
    """
    rows = len(next(iter(tensors.values())))
    missing = least_rows - rows
    if missing <= 0 or rows == 0:
        return run_session(session, names, tensors, stop)
    padded = {name: np.concatenate((array, *[array[-1:]] * missing)) for name, array in tensors.items()}
    return [answer[:rows] for answer in run_session(session, names, padded, stop)]


def _text_of(error: Exception) -> str:
    """The catalogue's text for what the runtime raised."""
    text = str(error)
    if "Failed to allocate" in text or "bad allocation" in text or "bad_alloc" in text:
        return OUT_OF_MEMORY
    is_refused_at_the_door = isinstance(error, _INPUT_ERRORS) and "while running" not in text
    return WRONG_INPUTS if is_refused_at_the_door else CAN_NOT_RUN


def classes_name(columns: str) -> str:
    """The output that names the columns of `columns`: `probabilities_2` has `classes_2`."""
    return columns.replace("probabilities", "classes")


def columns_of_maps(rows: Sequence[Mapping[Any, float]], columns: int) -> np.ndarray:
    """What a ZipMap answers (a map of class to probability for each row) as float32 (rows, columns)."""
    array = np.empty((len(rows), columns), dtype=np.float32)
    for place, row in enumerate(rows):
        array[place] = tuple(row.values())
    return array


def classes_of_maps(rows: Sequence[Mapping[Any, float]]) -> np.ndarray:
    """The classes of a ZipMap answer in column order, int64 or text; its maps are all in the same order."""
    keys = list(rows[0]) if rows else []
    classes = np.array(keys, dtype=np.object_ if any(isinstance(key, str) for key in keys) else np.int64)
    classes.flags.writeable = False  # every answer shares it
    return classes


def warm_up_rows_of(files: Mapping[str, bytes]) -> list[list[Any]]:
    """Rows in feature order that the model is known to run: of the reference, else the package's own; may be empty.

    Raises CorruptPackage.
    """
    for name in (REFERENCE_FILE, WARMUP_FILE):
        if name in files:
            try:
                rows = msgspec.json.decode(files[name], type=_Warmup).warmup
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise CorruptPackage(f"{name}: {error}") from error
            if rows:
                return rows
    return []


def _warm_up_tensors(session: Any, manifest: Manifest, files: Mapping[str, bytes]) -> list[Tensors]:
    """One set of tensors a row; the example, else zeros, else ones, for a version that has no rows of its own."""
    rows = warm_up_rows_of(files)
    if rows and manifest.features:
        try:
            return [from_rows([row], manifest) for row in rows]
        except (ValueError, TypeError, IndexError, OverflowError) as error:
            raise CorruptPackage(f"the warm-up rows do not fit the signature ({error})") from error
    if manifest.example:
        try:
            return [from_example(manifest)]
        except InvalidInput as error:
            raise CorruptPackage(f"the example can not be read ({error})") from error
    zeros = made_up(manifest, 1, 0.0)
    try:
        run_session(session, [output.name for output in session.get_outputs()], zeros)
    except ExecutionError:
        return [made_up(manifest, 1, 1.0)]
    return [zeros]


class _Warmup(Struct):
    warmup: list[list[Any]] = []


def _measure(version: LoadedVersion, rows: list[Tensors], runs: int, nanoseconds: Callable[[], int]) -> float:
    """Median run time of one row in microseconds, after one run that is not counted."""
    version.run(rows[0])
    start = nanoseconds()
    times: list[int] = []
    for number in range(max(1, runs)):
        before = nanoseconds()
        version.run(rows[number % len(rows)])
        after = nanoseconds()
        times.append(after - before)
        if after - start > _WARM_UP_SECONDS * 1e9:
            break
    return statistics.median(times) / 1000


def release_memory() -> None:
    """Give memory of unloaded sessions back to the system, where the C library can (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
