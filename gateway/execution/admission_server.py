"""The admission server: a process that has loaded the libraries and forks a limited child for each model.

Speaks length-prefixed msgpack on its standard input and output with the gateway that started it (`admission`), one
question at a time. The child gets the bytes, the server only the child's answer, which it passes on unread. Neither
outlives the gateway: the server ends with its input or its parent, the child is killed with the server.
"""

from __future__ import annotations

import ctypes
import math
import os
import resource
import select
import signal
import struct
import time
from pathlib import Path

import msgspec

from gateway.execution.finding import Findings, Question

_LENGTH = struct.Struct(">Q")
_POLL_SECONDS = 1.0
_PR_SET_PDEATHSIG = 1
_CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGILL, signal.SIGFPE}


def frame(body: bytes) -> bytes:
    """A message with its length."""
    return _LENGTH.pack(len(body)) + body


def read_frame(descriptor: int, seconds: float | None, parent: int = 0) -> bytes | None:
    """The next message; None at the end of the stream. Raises TimeoutError.

    parent: when given, the stream also counts as ended once this process has another parent.
    """
    head = _read_exactly(descriptor, _LENGTH.size, seconds, parent)
    return None if head is None else _read_exactly(descriptor, _LENGTH.unpack(head)[0], seconds, parent)


def _read_exactly(descriptor: int, count: int, seconds: float | None, parent: int) -> bytes | None:
    ends = math.inf if seconds is None else time.monotonic() + seconds
    chunks = bytearray()
    while len(chunks) < count:
        ready, _, _ = select.select([descriptor], [], [], min(_POLL_SECONDS, max(0.0, ends - time.monotonic())))
        if ready:
            chunk = os.read(descriptor, min(count - len(chunks), 1 << 20))
            if not chunk:
                return None
            chunks += chunk
        elif time.monotonic() >= ends:
            raise TimeoutError
        elif parent and os.getppid() != parent:
            return None
    return bytes(chunks)


def main() -> None:
    """Answer questions until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the gateway, which then closes the input
    import gateway.execution.examine  # noqa: F401  (loaded once, here, for all children)

    parent = os.getppid()
    while (body := read_frame(0, None, parent)) is not None:
        question = msgspec.msgpack.decode(body, type=Question)
        answer = _answer(question, parent)
        if answer is None:
            return
        write_all(1, frame(answer))


def _answer(question: Question, parent: int) -> bytes | None:
    """The child's findings, or a refusal that says how it ended; None when the gateway is gone."""
    receiving, sending = os.pipe()
    server = os.getpid()
    child = os.fork()
    if child == 0:
        _be_child(question, sending, server)
    os.close(sending)
    try:
        answer = read_frame(receiving, question.seconds, parent)
        is_late = False
    except TimeoutError:
        answer, is_late = None, True
    finally:
        os.close(receiving)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    if answer is None and os.getppid() != parent:
        return None
    if answer is None:
        return msgspec.msgpack.encode(Findings(reasons=(_ending(question, status, is_late),)))
    return answer


def _ending(question: Question, status: int, is_late: bool) -> str:
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    if is_late or number == signal.SIGXCPU:
        return f"the check did not end within {question.seconds:g} seconds: the model never ends, or loads too slowly"
    if number in _CRASHES:
        return f"the runtime crashed on this model ({signal.Signals(number).name})"
    if not number:
        return "the check itself failed on this model"
    return f"the check was killed; the model may need more than {question.memory_bytes} bytes of memory"


def _be_child(question: Question, sending: int, server: int) -> None:
    """Check the model and end. Never returns."""
    status = 1
    try:
        _limit(question)
        if os.getppid() != server:  # it died before this process asked to die with it
            os._exit(1)
        write_all(sending, frame(_findings(question, sending)))
        status = 0
    finally:
        os._exit(status)


def _limit(question: Question) -> None:
    """Cap memory (above what is mapped already), CPU time, files; die with the server; be the first to be killed."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    memory = pages * resource.getpagesize() + question.memory_bytes
    cpu = math.ceil(question.seconds) + 1
    for name, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, cpu),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        resource.setrlimit(name, (value, value))
    Path("/proc/self/oom_score_adj").write_text("1000")


def _findings(question: Question, sending: int) -> bytes:
    from gateway.execution.examine import examine

    model = Path(question.model).read_bytes()
    reference = Path(question.reference).read_bytes() if question.reference else None
    _keep_only(sending)
    try:
        findings = examine(model, question.draft, reference)
    except MemoryError:
        reason = f"the model needs more than the {question.memory_bytes} bytes of memory a check may use"
        findings = Findings(reasons=(reason,))
    return msgspec.msgpack.encode(findings)


def _keep_only(descriptor: int) -> None:
    """Close every other descriptor, so that the stranger's model can not speak for the server."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    os.closerange(3, descriptor)
    os.closerange(descriptor + 1, 4096)


def write_all(descriptor: int, body: bytes) -> None:
    """Write every byte, however many calls it takes."""
    view = memoryview(body)
    while view:
        view = view[os.write(descriptor, view) :]
