"""The event loop's turns: asked for in a process of its own, so that the tests' own process stays as it is."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_ASK = """
import struct, ctypes, sys, threading
from gateway.app.scheduling import be_prompt

def slice_of():
    found = ctypes.create_string_buffer(48)
    ctypes.CDLL(None).syscall(315, 0, found, 48, 0)
    return struct.unpack("<IIQiIQQQ", found.raw)[5]

usual, granted = slice_of(), be_prompt()
other = []
thread = threading.Thread(target=lambda: other.append(slice_of()))
thread.start()
thread.join()
print(int(granted), usual, slice_of(), other[0], sys.getswitchinterval())
"""


def _asked() -> list[float]:
    ran = subprocess.run([sys.executable, "-c", _ASK], capture_output=True, text=True, check=True)
    return [float(word) for word in ran.stdout.split()]


@pytest.mark.skipif(platform.machine() != "x86_64" or sys.platform != "linux", reason="asks by the number of a call")
def test_the_loop_gets_short_waits_and_what_it_starts_the_usual_ones() -> None:
    """Where the kernel does not grant a slice, the interpreter is still given back soon, and nothing fails."""
    granted, usual, own, of_thread, interval = _asked()
    assert interval < 0.001
    assert of_thread == usual
    if granted:
        assert own == 100_000 or own == usual  # kernels before 6.12 take the wish and keep their slice
