"""Objects of river kept in the monitor's own checkpoint, as pickle: they know nothing else (buckets and trees in C).

Read by the control process alone, from the checkpoint that it wrote itself, and never taken from a package, a request
or another machine. What this river can not read is dropped, and whoever kept it starts again.
"""

from __future__ import annotations

import pickle
from typing import Any


def frozen(one: Any) -> bytes:
    """The object's bytes."""
    return pickle.dumps(one, protocol=5)


def thawed(body: bytes, wanted: type[Any]) -> Any | None:
    """The object in the bytes; None when there is none, when it can not be read or is no `wanted`."""
    if not body:
        return None
    try:
        found = pickle.loads(body)  # noqa: S301 - our own checkpoint, see above
    except (pickle.UnpicklingError, AttributeError, ImportError, EOFError, IndexError, TypeError, ValueError):
        return None
    return found if isinstance(found, wanted) else None
