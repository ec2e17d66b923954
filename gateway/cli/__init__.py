"""The `gateway` command. Imports nothing heavy: every command imports what it needs when it runs.

Exit codes: 0 done, 1 refused or failed, 2 wrong usage, 3 the gateway could not be reached.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.cli.root import run


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and leave with its exit code."""
    run(arguments)
