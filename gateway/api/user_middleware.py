"""ASGI middleware of the user's own around the serving application, named in the settings as `module:name`.

A name stands for a class or function that takes the application and gives another one, as Starlette's and most others
do. The first one is the outermost. With any of them everything goes through the application: no fast lane.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from gateway.errors import Fault, InvalidConfig

Wrap = Callable[[Any], Any]
"""Takes an ASGI application, gives one."""


def find_middleware(names: Sequence[str]) -> list[Wrap]:
    """What the names stand for; modules are looked for in the working directory too. Raises InvalidConfig."""
    if names and (here := str(Path.cwd())) not in sys.path:
        sys.path.append(here)
    return [_find(name) for name in names]


def wrapped(app: Any, wraps: Sequence[Wrap]) -> Any:
    """The application inside all of them."""
    for wrap in reversed(wraps):
        app = wrap(app)
    return app


def _find(name: str) -> Wrap:
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise _wrong(name, "write it as module:name, for example my_company.tracing:Tracing")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # a module of the user's may raise what it likes
        raise _wrong(name, f"it can not be imported ({type(error).__name__}: {error})") from error
    if not callable(found):
        raise _wrong(name, "it is not a class or function that takes an application")
    wrap: Wrap = found
    return wrap


def _wrong(name: str, why: str) -> InvalidConfig:
    return InvalidConfig(f"settings: middleware: {name}: {why}", [Fault("middleware", f"{name}: {why}")])
