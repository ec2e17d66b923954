"""The job server: a small program that loads the training libraries once and forks one process for each job.

Started by `gateway.retraining.launch`, never imported by it. A line of JSON on standard input is an order, lines of
JSON on standard output say what became of it; the end of standard input is the end of the server. It runs
nothing beside its one loop, so a fork is safe, and a job starts in milliseconds instead of seconds.

    {"ready": true}  {"pid": 4711}  {"status": 0}

A job dies with the server and the server with the control process, however they end: the kernel sends SIGKILL.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import resource
import signal
import sys
import tempfile
import warnings
from pathlib import Path

from msgspec import json

from gateway.retraining.job.run import run_job
from gateway.retraining.launch import Order
from gateway.retraining.spec import JobSpec

_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG, prctl(2)
_NICENESS = 10
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def main(parent: int) -> None:
    """Load everything, then serve orders until standard input ends. parent: process id of the control process."""
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent decides what ends
    os.nice(_NICENESS)
    # One thread: serving keeps the other cores, and a process without threads may fork.
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    preload()
    server = os.getpid()  # a job may run first when the server is gone: then its own parent is another
    say(b'{"ready":true}')
    for line in sys.stdin.buffer:
        order = json.decode(line, type=Order)
        child = os.fork()
        if not child:
            run(order, server)
        say(json.encode({"pid": child}))
        say(json.encode({"status": end_of(child)}))


def preload() -> None:
    """Import what jobs use and run a tiny one through, so that nothing is imported late."""
    import numpy as np
    import sklearn.impute
    import sklearn.preprocessing  # noqa: F401
    from sklearn.ensemble import ExtraTreesClassifier, HistGradientBoostingClassifier  # noqa: F401
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    from gateway.retraining.job.convert import convert
    from gateway.retraining.recipe import Feature, Recipe

    features = np.linspace(0, 1, 40, dtype=np.float32).reshape(20, 2)
    labels = np.arange(20) % 2
    small = Recipe(
        model="preload",
        features=[Feature(name="a"), Feature(name="b")],
        label="y",
        classes=[0, 1],
        candidates={"trees": lambda: ExtraTreesClassifier(2)},
    )
    for estimator in (ExtraTreesClassifier(2), make_pipeline(LogisticRegression())):
        convert(estimator.fit(features, labels), small)
    gc.collect()
    gc.freeze()  # what is there now is shared with every job: the collector must not write to it


def run(order: Order, server: int) -> None:
    """In the forked process: take the limits, run the job, leave without the server's clean-up. Never returns."""
    status = 1
    try:
        die_with_parent(server)
        os.setsid()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        _redirect(Path(order.log))
        os.environ["TMPDIR"] = tempfile.tempdir = str(Path(order.log).parent)  # it is removed with the job
        _limit(resource.RLIMIT_CPU, int(order.seconds) + 1)
        _limit(resource.RLIMIT_AS, order.memory_bytes)
        _limit(resource.RLIMIT_CORE, 0)
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text("1000")  # short of memory, the job goes first
        warnings.simplefilter("default")
        run_job(json.decode(Path(order.spec).read_bytes(), type=JobSpec))
        status = 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def end_of(child: int) -> int:
    """The exit status of a job, once it has ended; what it had started itself (workers of joblib) is ended too."""
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)  # not reaped yet, so the group's number is still the job's
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def die_with_parent(parent: int) -> None:
    """Ask the kernel (Linux) for SIGKILL when the parent ends; end at once when it is gone already."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def say(line: bytes) -> None:
    """One line to the control process."""
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


def _redirect(log: Path) -> None:
    """Everything that the job prints goes to its own log; the server's pipes are closed."""
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for source, descriptor in ((nothing, 0), (target, 1), (target, 2)):
        os.dup2(source, descriptor)


def _limit(what: int, most: int) -> None:
    hard = resource.getrlimit(what)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (most, most))
