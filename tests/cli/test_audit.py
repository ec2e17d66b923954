"""`gateway audit`: lists without a sub-command, and `verify` checks the chain, here or over the admin API."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.cli.conftest import Command, Running


def make_trail(command: Command, count: int) -> Path:
    """A data directory whose trail holds so many entries."""
    for number in range(count):
        assert command("token", "create", f"t{number}", "--scopes", "read", "--data", "d").code == 0
    return Path("d")


def edit(data: Path, statement: str) -> None:
    """Change the trail behind the gateway's back."""
    with closing(sqlite3.connect(data / "config.sqlite")) as database, database:
        database.execute(statement)


def test_audit_lists_without_a_sub_command(command: Command, running: Running) -> None:
    """As it always did: alone, with a model, with options."""
    change = ("weights", "electricity", "2=5", "--reason", "a look")
    assert command(*change, *running.options).code == 0
    assert "a look" in command("audit", *running.options).out
    for words in (("audit",), ("audit", "list")):
        listed = command(*words, "electricity", "--last", "1", "--json", *running.options)
        assert [entry["reason"] for entry in listed.json["entries"]] == ["a look"]
    assert "verify" in command("audit", "--help").out


def test_verify_checks_a_running_gateway(command: Command, running: Running) -> None:
    """Over the API the trail comes in pages, each entry with its hash."""
    done = command("audit", "verify", *running.options)
    assert done.code == 0
    assert "entries checked" in done.out
    found = command("audit", "verify", "--json", *running.options).json
    assert (found["whole"], found["started"], found["broken"]) == (True, 1, None)
    assert found["checked"] > 3
    assert command("audit", "verify", "--head", found["head"], *running.options).code == 0


def test_verify_checks_a_data_directory(command: Command) -> None:
    data = make_trail(command, 3)
    done = command("audit", "verify", "--data", str(data))
    head = command("audit", "verify", "--data", str(data), "--json").json["head"]
    assert (done.code, "3 entries checked" in done.out, head in done.out) == (0, True, True)
    assert command("audit", "verify", "--data", "nowhere").code == 1


@pytest.mark.parametrize(
    ("statement", "number"),
    [("UPDATE audit SET actor = 'nobody' WHERE number = 2", 2), ("DELETE FROM audit WHERE number = 3", 3)],
)
def test_verify_names_the_broken_entry_and_fails(command: Command, statement: str, number: int) -> None:
    """A scheduled check goes by the exit code."""
    data = make_trail(command, 4)
    edit(data, statement)
    done = command("audit", "verify", "--data", str(data))
    assert (done.code, f"BROKEN at entry {number}" in done.out) == (1, True)
    told = command("audit", "verify", "--data", str(data), "--json").json
    assert (told["whole"], told["broken"]["number"], told["checked"]) == (False, number, number - 1)


def test_a_head_of_before_tells_whether_the_end_was_cut_off(command: Command) -> None:
    """What the chain can not see by itself."""
    data = make_trail(command, 3)
    head = command("audit", "verify", "--data", str(data), "--json").json["head"]
    assert command("token", "create", "more", "--data", "d").code == 0
    assert command("audit", "verify", "--head", head, "--data", str(data)).code == 0
    edit(data, "DELETE FROM audit WHERE number >= 3")
    assert command("audit", "verify", "--data", str(data)).code == 0
    done = command("audit", "verify", "--head", head, "--data", str(data))
    assert (done.code, "NOT part of the chain" in done.out) == (1, True)
    assert command("audit", "verify", "--head", "abc", "--data", str(data)).code == 2
