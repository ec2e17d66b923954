"""Small programs in processes of their own, to be killed or raced."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).parents[2]


@contextmanager
def program(source: str, *arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """The program running, its standard output a pipe. It is killed at the end."""
    command = [sys.executable, "-c", source, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, cwd=_ROOT) as process:
        try:
            yield process
        finally:
            process.kill()


def lines_until_killed(process: subprocess.Popen[bytes], lines: int) -> list[bytes]:
    """Read so many lines, then SIGKILL; everything that the program had said until it died."""
    assert process.stdout is not None
    said = [process.stdout.readline() for _ in range(lines)]
    process.kill()
    rest = process.stdout.read()
    process.wait(10)
    return [*said, *rest.splitlines(keepends=True)]
