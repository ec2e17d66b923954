"""The tutorial's files load and its commands exist; `python -m loadtests.tutorial` runs it as printed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

from gateway.cli.root import app
from gateway.documents.parse import parse_policy
from gateway.retraining.recipe import load_recipe
from loadtests.tutorial import TUTORIAL, blocks, script

ROOT = Path(__file__).parents[2]
BLOCKS = blocks(TUTORIAL.read_text())
PAGES = ("tutorial.md", "offline.md", "recipe.md")


def commands(page: str) -> list[str]:
    """Every line of a page's shell blocks that calls the gateway, as the shell would see it."""
    text = (ROOT / "docs" / page).read_text()
    lines = [line for block in blocks(text) if block.language == "sh" for line in block.text.splitlines()]
    parts = [part.strip() for line in lines for part in re.split(r"&|\||;|\buntil\b|\d?> \S+", line)]
    return [part for part in parts if part.startswith("gateway ")]


def test_the_tutorial_takes_every_step() -> None:
    first = [" ".join(one.split()[1:2]) for one in commands("tutorial.md")]
    wanted = ["init", "serve", "train", "feedback", "journal", "train", "replay", "rollout", "alerts", "score"]
    rest = iter(first)
    assert all(step in rest for step in wanted), first
    assert "docs/tutorial.md" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("line", sorted({line for page in PAGES for line in commands(page)}))
def test_every_command_and_option_exists(line: str) -> None:
    """Parsed by the command itself, and not run."""
    command: Any = typer.main.get_command(app)
    words = shlex.split(line)[1:]
    while subcommands := getattr(command, "commands", None):
        # `gateway alerts MODEL` lists: the group's own command for words that name none.
        command = subcommands[words.pop(0)] if words and words[0] in subcommands else subcommands["list"]
    command.make_context(line, words)


def test_a_wrong_option_would_be_noticed() -> None:
    """So that the test above can fail."""
    with pytest.raises(Exception, match="No such option"):
        test_every_command_and_option_exists("gateway rollout show m --no-such")


def test_the_files_are_what_the_gateway_reads(tmp_path: Path) -> None:
    """Both recipes, the policy and the program."""
    files = [block for block in BLOCKS if block.file]
    assert [block.file for block in files] == [
        "world.py",
        "models/parcels.py",
        "router_config/parcels.yaml",
        "models/parcels.py",
    ]
    for number, block in enumerate(files):
        if block.language == "yaml":
            assert parse_policy(block.text, block.file).retraining.recipe == "models/parcels.py"
        else:
            compile(block.text, block.file, "exec")
        if block.file.startswith("models/"):
            (tmp_path / f"{number}.py").write_text(block.text)
            assert load_recipe(tmp_path / f"{number}.py").model == "parcels"


def test_the_script_keeps_the_order_of_the_page() -> None:
    made = script(
        "```sh\nmake it\n```\n```python\n# a/b.py\nx = 'y'\n```\n```python\nshown\n```\n```sh\nuse 'it'\n```\n"
    )
    assert made.index("make it") < made.index("cat > a/b.py") < made.index("use 'it'")
    assert "shown" not in made
