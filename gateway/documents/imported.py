"""What is remembered of a policy file: when it was last taken over, and whether the API has gone another way since."""

from __future__ import annotations

from msgspec import Struct

from gateway.names import ModelName


class Imported(Struct, frozen=True, kw_only=True):
    """One policy file as it was last looked at.

    digest: SHA-256 of the file that was taken over. revision: of the stored policy that this import wrote.
    diverged: the file was not taken over, because the API changed the policy since. error: why the file can not be
    read, with line and key.
    """

    model: str
    file: str
    digest: str = ""
    revision: int = 0
    diverged: bool = False
    error: str = ""


def imported_name(model: ModelName) -> str:
    """The document's name."""
    return f"imports/{model}"
