"""The peers' packages: an environment of its own for each, below the cache directory, made when first needed.

Nothing here is a dependency of the project. A peer that can not be installed is left out and named; the others go on.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

INSTALL_SECONDS = 900.0
_RUNTIME = ("onnxruntime>=1.23,<2", "numpy")
_UVICORN = ("uvicorn>=0.30", "uvloop", "httptools")

PYTHON: dict[str, tuple[str, ...]] = {
    "fastapi": ("fastapi==0.165.0", *_UVICORN, *_RUNTIME),
    "mlserver": ("mlserver==1.7.1", *_RUNTIME),
    "kserve": ("kserve==0.21.0", *_RUNTIME),
    "litserve": ("litserve==0.2.19", *_RUNTIME),
    "bentoml": ("bentoml==1.4.39", *_RUNTIME),
    "ray": ("ray[serve]==2.60.0", *_RUNTIME),
}
"""Requirements by environment, installed with the pip and the index that the machine is set up for."""
NODE: dict[str, tuple[str, ...]] = {"node": ("onnxruntime-node@1.30.0",)}


@dataclass(frozen=True)
class Ready:
    """An environment that can be used. program: its python, or node; folder: where it lies."""

    program: str
    folder: Path


@dataclass(frozen=True)
class Missing:
    """Why there is none."""

    reason: str


def prepare(name: str, cache: Path) -> Ready | Missing:
    """The environment, installed when it is not there yet or its requirements have changed."""
    folder = cache / name
    node = name in NODE
    wanted = NODE[name] if node else PYTHON[name]
    program = shutil.which("node") if node else str(folder / "bin" / "python")
    if program is None:
        return Missing("node is not installed")
    stamp = folder / "installed.txt"
    text = "\n".join((*wanted, "" if node else sys.version.split()[0])) + "\n"
    if stamp.exists() and stamp.read_text() == text:
        return Ready(program, folder)
    print(f"Installing {name} ({', '.join(wanted)}) into {folder}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    why = _run(node_commands(wanted) if node else python_commands(folder, wanted), folder)
    if why is not None:
        return Missing(f"could not be installed: {why}")
    stamp.write_text(text)
    return Ready(program, folder)


def python_commands(folder: Path, wanted: Sequence[str]) -> list[list[str]]:
    """How a Python environment is made."""
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    return [[sys.executable, "-m", "venv", str(folder)], [*pip, "install", "-q", "--no-input", *wanted]]


def node_commands(wanted: Sequence[str]) -> list[list[str]]:
    """How a Node environment is made. The package's install script only fetches GPU libraries: it is not run."""
    return [["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", ".", *wanted]]


def _run(commands: Sequence[Sequence[str]], folder: Path) -> str | None:
    """Run one after another; why it failed, or None."""
    for command in commands:
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env={**os.environ, "PYTHONPATH": ""},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=INSTALL_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{type(error).__name__}: {error}"
        if done.returncode:
            last = (done.stderr or done.stdout).strip().splitlines()[-1:]
            return last[0] if last else f"code {done.returncode}"
    return None
