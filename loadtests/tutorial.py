"""Runs docs/tutorial.md as printed: `python -m loadtests.tutorial`, about two minutes.

Blocks of files are written where their first line says, blocks of commands run in one shell, in order; the first that
fails ends the run. Only the ports are others, so that it disturbs no gateway.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from loadtests.bench.server import free_ports

ROOT = Path(__file__).resolve().parents[1]
TUTORIAL = ROOT / "docs" / "tutorial.md"
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"# ([\w./-]+)\n")


class Block(NamedTuple):
    """A fenced block. file: where it is to be written; empty: commands, or a part that is only shown."""

    language: str
    text: str
    file: str


def blocks(markdown: str) -> list[Block]:
    """The blocks in their order. Pure."""
    found = []
    for language, text in _FENCE.findall(markdown):
        named = _FILE.match(text)
        found.append(Block(language, text, named[1] if named and language != "sh" else ""))
    return found


def script(markdown: str) -> str:
    """One shell script of all blocks. Pure."""
    lines = ["set -eu", "trap 'kill $(jobs -p) 2>/dev/null; wait' EXIT"]
    for block in blocks(markdown):
        if block.file:
            lines.append(f"cat > {block.file} <<'END OF FILE'\n{block.text}END OF FILE")
        elif block.language == "sh":
            shown = block.text.strip().replace("'", "'\\''")
            lines.append(f"printf '\\n$ %s\\n' '{shown}'\n{block.text}")
    return "\n".join(lines)


def main() -> int:
    """Run it in a directory of its own; its exit code."""
    port, admin_port = free_ports(2)
    markdown = TUTORIAL.read_text().replace("127.0.0.1:8080", f"127.0.0.1:{port}")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "GATEWAY_LISTEN": f"127.0.0.1:{port}",
        "GATEWAY_ADMIN_LISTEN": f"127.0.0.1:{admin_port}",
        "GATEWAY_URL": f"http://127.0.0.1:{port}",
        "GATEWAY_ADMIN_URL": f"http://127.0.0.1:{admin_port}",
    }
    with tempfile.TemporaryDirectory(prefix="gateway-tutorial-") as folder:
        done = subprocess.run(["bash", "-c", script(markdown)], cwd=folder, env=environment, check=False)
    return done.returncode


if __name__ == "__main__":
    raise SystemExit(main())
