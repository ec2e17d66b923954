"""How a serving process asks for its turns: the event loop comes before everything else that wants its core.

Two waits would otherwise be the longest that callers see. Python gives the interpreter to another thread for 5 ms at a
time. And Linux (EEVDF, since 6.6) lets whoever runs finish a slice of some milliseconds before a thread that wakes up
gets the core; since 6.12 a thread may ask for a shorter slice of its own, and then waits for nobody's long one.
Source: sched(7), sched_setattr(2).
"""

from __future__ import annotations

import ctypes
import platform
import struct
import sys

_GIL_SECONDS = 0.0002
_SLICE_NANOSECONDS = 100_000
"""The shortest that the kernel grants."""

_SET_ATTRIBUTES = {"x86_64": 314, "aarch64": 274}
"""The number of sched_setattr(2), which the C library does not wrap."""

_ATTRIBUTES = struct.Struct("<IIQiIQQQ")  # size, policy, flags, nice, priority, runtime, deadline, period
_NORMAL, _RESET_ON_FORK = 0, 1


def be_prompt() -> bool:
    """Ask for short waits, for this thread; threads and processes that it starts get the usual slice.

    False where the kernel gives no slices to choose, which costs nothing but the longer waits.
    """
    sys.setswitchinterval(_GIL_SECONDS)
    number = _SET_ATTRIBUTES.get(platform.machine()) if sys.platform == "linux" else None
    if number is None:
        return False
    wish = _ATTRIBUTES.pack(_ATTRIBUTES.size, _NORMAL, _RESET_ON_FORK, 0, 0, _SLICE_NANOSECONDS, 0, 0)
    return bool(ctypes.CDLL(None).syscall(number, 0, wish, 0) == 0)
