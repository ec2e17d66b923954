"""The house itself: what is in the repository, what the locks promise, what gets installed.

These are the promises that no other test would miss until a stranger clones the project.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import NormalizedName, canonicalize_name

import gateway

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
LOCKS = (
    "requirements/build.txt",
    "requirements/runtime.txt",
    "requirements/dev.txt",
    "requirements/conformance.txt",
)
PYTHONS = ("3.11.0", "3.12.0", "3.13.0")

# Each pattern is written so that it does not match its own line.
FORBIDDEN = {
    "a machine's path": r"(?<![\w./-])/(?:[w]ork|[r]oot|(?:[h]ome|[U]sers)/\w+|[o]pt/(?:wheels|pypi))\b",
    "a local index": r"[f]ile://",
    "a package address": r"[p]ythonhosted\.org|[p]ypi\.org/simple|[r]egistry\.npmjs",
    "an index option": r"(?<!no-emit-)(?:[i]ndex-url|[f]ind-links)",
    "a private key": r"-----[B]EGIN [A-Z ]*PRIVATE KEY",
    "a cloud or forge token": r"\bA[K]IA[0-9A-Z]{16}\b|\bgh[p-u]_\w{36}|\bgithub_[p]at_\w{20}|\bxox[a-s]-\w",
    "a bearer token": r"(?i)\b[b]earer\s+[a-z0-9_-]{32,}",
}


def git(*arguments: str) -> str:
    """What git says about this checkout; the test is skipped where there is none, as in an archive."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def tracked() -> list[Path]:
    """The files that a clone gets, those deleted here and not yet committed left out."""
    paths = [ROOT / name for name in git("ls-files", "-z").split("\0") if name]
    return [path for path in paths if path.is_file()]


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_tracked_file_names_a_machine_or_a_secret(what: str) -> None:
    """A path or an address of one machine breaks the next one; a secret in git is public for good."""
    pattern = re.compile(FORBIDDEN[what])
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}"
        for path in tracked()
        for number, line in enumerate(path.read_bytes().decode("utf-8", "replace").splitlines(), 1)
        if pattern.search(line)
    ]
    assert not found, "\n".join(found)


def test_no_tracked_file_is_made_by_a_run() -> None:
    """Environments, caches, stores and tokens stay on the machine that made them."""
    names = {part for path in tracked() for part in path.relative_to(ROOT).parts}
    assert not names & {".venv", "__pycache__", ".coverage", "admin-token", "gateway-data", ".mypy_cache"}


def lock(name: str) -> dict[NormalizedName, list[tuple[Requirement, int]]]:
    """Each package of a lock with its pins (one for each marker) and the number of their hashes."""
    lines = [line for line in (ROOT / name).read_text().splitlines() if not line.startswith("#")]
    pins: dict[NormalizedName, list[tuple[Requirement, int]]] = {}
    for entry in re.sub(r" \\\n\s+", " ", "\n".join(lines)).splitlines():
        text, *hashes = re.split(r"\s+--hash=sha256:(?=[0-9a-f]{64}\b)", entry)
        requirement = Requirement(text)
        pins.setdefault(canonicalize_name(requirement.name), []).append((requirement, len(hashes)))
    return pins


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_pins_every_package_by_version_and_hash_and_names_no_address(name: str) -> None:
    """pip then refuses whatever an index offers in place of the package that was tested."""
    for pins in lock(name).values():
        for requirement, hashes in pins:
            assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)), requirement
            assert requirement.url is None
            assert hashes > 0, requirement
    text = (ROOT / name).read_text()
    assert "://" not in text
    assert set(re.findall(r"(?<!\S)--?[a-z][\w-]*", text)) == {"--hash"}


def pinned(name: str, python: str) -> dict[NormalizedName, str]:
    """What the lock installs on this Python, package by version."""
    environment: dict[str, str] = {
        **{name: str(value) for name, value in default_environment().items()},
        "python_version": python.rpartition(".")[0],
        "python_full_version": python,
    }
    chosen: dict[NormalizedName, str] = {}
    for package, pins in lock(name).items():
        versions = [
            str(pin.specifier).removeprefix("==")
            for pin, _ in pins
            if not pin.marker or pin.marker.evaluate(environment)
        ]
        assert len(versions) <= 1, f"{package} is pinned twice on Python {python}"
        if versions:
            chosen[package] = versions[0]
    return chosen


UNLOCKED = {"bayesian", "mlflow"}
"""Extras that are large and only used where a recipe asks for them: neither tested nor shipped, so not locked."""


def assert_holds(name: str, python: str, wanted: Iterable[str]) -> None:
    """The lock holds each wanted package at a version that fits."""
    have = pinned(name, python)
    for requirement in map(Requirement, wanted):
        if requirement.marker and not requirement.marker.evaluate():
            continue
        package = canonicalize_name(requirement.name)
        if package != PROJECT["name"]:
            assert package in have, f"{package} is not in {name}: make lock"
            assert have[package] in requirement.specifier, f"{package} {have[package]} in {name}: make lock"


@pytest.mark.parametrize("python", PYTHONS)
def test_the_locks_hold_what_the_project_asks_for(python: str) -> None:
    """A dependency added without `make lock` would be missing from `make setup` and from the image."""
    assert_holds("requirements/runtime.txt", python, PROJECT["dependencies"])
    assert_holds("requirements/dev.txt", python, PROJECT["dependencies"])
    for name, extra in PROJECT["optional-dependencies"].items():
        if name not in UNLOCKED:
            assert_holds("requirements/dev.txt", python, extra)
    build = [*PYPROJECT["build-system"]["requires"], *PYPROJECT["dependency-groups"]["build"]]
    assert_holds("requirements/build.txt", python, build)
    assert_holds("requirements/dev.txt", python, build)


@pytest.mark.parametrize("python", PYTHONS)
def test_the_locks_agree(python: str) -> None:
    """What is tested is what is shipped, version by version."""
    tested = pinned("requirements/dev.txt", python)
    for name in ("requirements/runtime.txt", "requirements/build.txt"):
        assert pinned(name, python).items() <= tested.items()


def test_every_python_of_the_locks_is_one_that_the_project_takes() -> None:
    """The lists of Pythons in the packaging and in these tests do not drift apart."""
    supported = SpecifierSet(PROJECT["requires-python"])
    assert [f"3.{minor}.0" for minor in range(8, 20) if f"3.{minor}.0" in supported] == list(PYTHONS)
    classified = {text.rpartition(" ")[2] for text in PROJECT["classifiers"] if ":: 3." in text}
    assert classified == {python.removesuffix(".0") for python in PYTHONS}


def test_the_version_is_written_the_same_twice() -> None:
    """Packaging reads one, the program prints the other."""
    assert gateway.__version__ == PROJECT["version"]


def test_only_the_package_is_installed_and_all_of_it(tmp_path: Path) -> None:
    """`pip install .` puts no `tests` at the top of everybody's imports, and leaves no data file out."""
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == {"gateway"}
    ours = {path.relative_to(ROOT).as_posix() for path in tracked()}
    assert {name for name in ours if name.startswith("gateway/")} <= names


def test_the_ci_run_can_be_run_and_ends_on_the_tests() -> None:
    """The run is read by its last line, pytest's own; nothing may print after it."""
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert git("ls-files", "--stage", ".ci/run").startswith("100755 ")
    lines = script.read_text().split("\n")
    assert lines[0] == "#!/usr/bin/env bash"
    assert "set -euo pipefail" in lines
    assert [line for line in lines if line][-1] == "make check"
    recipe = re.search(r"^check:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    assert "-m pytest" in recipe[1].splitlines()[-1]


def test_help_names_every_target() -> None:
    """A target that `make help` does not show is not found."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    shown = subprocess.run(["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony is not None
    for target in phony[1].split():
        assert f"make {target} " in shown


def test_a_serving_process_loads_no_training_library() -> None:
    """They take seconds and a hundred megabytes: they are imported where they are used, not with a module."""
    program = (
        "import importlib, pkgutil, sys\n"
        "for room in ('api', 'cli', 'execution', 'journal', 'routing', 'serving'):\n"
        "    package = importlib.import_module(f'gateway.{room}')\n"
        "    for module in pkgutil.walk_packages(package.__path__, f'{package.__name__}.'):\n"
        "        if not module.name.endswith('__main__'):\n"
        "            importlib.import_module(module.name)\n"
        "print(*{'sklearn', 'skl2onnx', 'river', 'scipy', 'pyarrow', 'locust'} & set(sys.modules))\n"
    )
    run = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == ""
