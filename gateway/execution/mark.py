"""Which version runs now, for whoever asks after this process has died: told by everything that runs one."""

from __future__ import annotations

from typing import Protocol

from gateway.registry.manifest import Manifest


class Mark(Protocol):
    """Remembers beyond the process's death what ran in it. Called for every run, by several threads: cheap."""

    def begin(self, manifest: Manifest) -> int:
        """This thread runs the version now. Returns what `end` wants."""

    def end(self, place: int) -> None:
        """The run is over."""


class NoMark:
    """Remembers nothing."""

    def begin(self, manifest: Manifest) -> int:
        return 0

    def end(self, place: int) -> None:
        return None
