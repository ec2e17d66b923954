"""The door for models: a stranger's file is checked in a limited child process before it becomes a package.

The gateway itself never parses, loads or runs an unchecked model. `AdmissionServer` holds the preloaded process that
forks the children; `admit` asks it and writes the package. May be called from several threads: checks queue up.
"""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from msgspec import Struct

from gateway.errors import AdmissionRefused
from gateway.execution.admission_server import frame, read_frame, write_all
from gateway.execution.finding import Findings, Question
from gateway.execution.signature import TENSOR_NAME
from gateway.names import model_name
from gateway.registry.manifest import Manifest
from gateway.registry.package import WARMUP_FILE, write_package

_START = (  # one thread: threads do not live through a fork, and a child needs only one
    "import os, sys; os.environ.update(OMP_NUM_THREADS='1', OPENBLAS_NUM_THREADS='1'); "
    "sys.path.insert(0, sys.argv[1]); from gateway.execution.admission_server import main; main()"
)
_ROOT = str(Path(__file__).resolve().parents[2])
REPAIRED = "output types declared as 64-bit floats were set to the 32-bit floats that the ML operators answer"
_SPARE_SECONDS = 30.0
"""What the server may take beyond a check's own limit: starting, reading the model, sending the answer."""


class Limits(Struct, frozen=True, kw_only=True):
    """What one check may use. memory_bytes: on top of the libraries themselves."""

    seconds: float = 20.0
    memory_bytes: int = 2 * 1024**3


class AdmissionServer:
    """The preloaded process that forks a child for each check; starts with the first one, and again when it died."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def process_id(self) -> int | None:
        """The server's process id, None while it is not running."""
        running = self._process
        return None if running is None or running.poll() is not None else running.pid

    def ask(self, question: Question) -> Findings:
        """The findings on one model. Raises AdmissionRefused when there are none."""
        with self._lock:
            process = self._running()
            try:
                answer = self._exchange(process, question)
            except (OSError, TimeoutError):
                answer = None
            if answer is None:
                self._stop()
                raise AdmissionRefused(["the check broke off; publish again, and look at the gateway's log"])
        try:
            return msgspec.msgpack.decode(answer, type=Findings)
        except msgspec.MsgspecError as error:
            raise AdmissionRefused(
                ["the check gave an answer that can not be read: the model is not trusted"]
            ) from error

    def close(self) -> None:
        """End the server; a check under way ends first."""
        with self._lock:
            self._stop()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._stop()
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-W", "ignore::DeprecationWarning", "-c", _START, _ROOT],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
            )
        return self._process

    def _exchange(self, process: subprocess.Popen[bytes], question: Question) -> bytes | None:
        assert process.stdin is not None
        assert process.stdout is not None
        write_all(process.stdin.fileno(), frame(msgspec.msgpack.encode(question)))
        return read_frame(process.stdout.fileno(), question.seconds + _SPARE_SECONDS)

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(timeout=2.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def admit(
    model: bytes,
    draft: Manifest,
    into: Path,
    limits: Limits,
    reference: bytes | None = None,
    server: AdmissionServer | None = None,
) -> Manifest:
    """Check a model in a limited child and write a complete package to `into`; the manifest with its signature.

    draft: model name and what the publisher says (features, prediction, lineage, gate, card); number stays 0. server:
    one to share between calls; left out, a server is started for this call. Raises AdmissionRefused with the reasons.
    """
    try:
        model_name(draft.model)
    except ValueError as error:
        raise AdmissionRefused([str(error)]) from error
    with tempfile.TemporaryDirectory(prefix="gateway-admission-") as directory:
        question = _question(Path(directory), model, draft, reference, limits)
        if server is None:
            with AdmissionServer() as own:
                findings = own.ask(question)
        else:
            findings = server.ask(question)
    manifest = _with_signature(draft, findings)
    extra = {WARMUP_FILE: msgspec.json.encode({"warmup": findings.warmup})} if findings.warmup else {}
    return write_package(into, findings.model or model, manifest, reference, extra)


async def admit_async(
    model: bytes,
    draft: Manifest,
    into: Path,
    limits: Limits,
    reference: bytes | None = None,
    server: AdmissionServer | None = None,
) -> Manifest:
    """`admit` in a thread, so that the event loop goes on."""
    return await asyncio.to_thread(admit, model, draft, into, limits, reference, server)


def _question(directory: Path, model: bytes, draft: Manifest, reference: bytes | None, limits: Limits) -> Question:
    (directory / "model").write_bytes(model)
    if reference is not None:
        (directory / "reference").write_bytes(reference)
    return Question(
        model=str(directory / "model"),
        draft=draft,
        reference="" if reference is None else str(directory / "reference"),
        seconds=limits.seconds,
        memory_bytes=limits.memory_bytes,
    )


def _with_signature(draft: Manifest, findings: Findings) -> Manifest:
    """The draft with what only the check can know; the child's word is taken for nothing else.

    Raises AdmissionRefused for names that the check lets nobody have: then the model has taken the child over.
    """
    found = findings.manifest
    if findings.reasons or found is None:
        raise AdmissionRefused(findings.reasons or ["the check found no signature"])
    if not all(TENSOR_NAME.fullmatch(tensor.name) for tensor in (*found.inputs, *found.outputs)):
        raise AdmissionRefused(["the check gave no answer that can be read"])
    return msgspec.structs.replace(
        draft,
        inputs=found.inputs,
        outputs=found.outputs,
        features=found.features,
        prediction=found.prediction,
        zipmap=found.zipmap,
        joins=found.joins,
        least_rows=min(max(1, found.least_rows), 2),
        join_difference=_number(found.join_difference),
        memory_bytes=max(0, found.memory_bytes),
        card=draft.card if findings.model is None else {**draft.card, "repaired": REPAIRED},
    )


def _number(difference: float | None) -> float | None:
    """A difference that can be one: finite, not negative; else None."""
    return difference if difference is not None and math.isfinite(difference) and difference >= 0 else None
