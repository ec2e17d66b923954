"""The image's file: without a Docker engine, its words are checked against the real program, and then run.

A wrong flag, path or address in a Dockerfile shows only when somebody starts the image. Here the command,
its environment and its health check are read from the file; settings and flags must be the program's own.
"""

from __future__ import annotations

import fnmatch
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import pytest
from packaging.specifiers import SpecifierSet

from gateway.settings import Settings, read_settings

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@dataclass(frozen=True)
class Instruction:
    """One instruction of a stage, continuation lines joined and comments left out."""

    verb: str
    rest: str

    def words(self) -> list[str]:
        """The words of an exec form (a JSON list) or of a plain line, flags such as --chown left out."""
        text = re.sub(r"^(--\S+\s+)+", "", self.rest)
        return json.loads(text) if text.startswith("[") else shlex.split(text)


def parse(text: str) -> list[list[Instruction]]:
    """The stages of a Dockerfile, each with its FROM first."""
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    stages: list[list[Instruction]] = []
    for line in joined.splitlines():
        verb, _, rest = line.strip().partition(" ")
        if verb == "FROM":
            stages.append([])
        stages[-1].append(Instruction(verb, rest.strip()))
    return stages


STAGES = parse((ROOT / "Dockerfile").read_text())
FINAL = STAGES[-1]


def only(verb: str) -> Instruction:
    """The one instruction with this verb in the stage that becomes the image."""
    found = [instruction for instruction in FINAL if instruction.verb == verb]
    assert len(found) == 1, f"{verb} is there {len(found)} times"
    return found[0]


def environment() -> dict[str, str]:
    """What the image sets, PATH left out."""
    pairs = [word.partition("=") for instruction in FINAL if instruction.verb == "ENV" for word in instruction.words()]
    return {name: value for name, _, value in pairs if name != "PATH"}


def arguments() -> list[str]:
    """What the image passes to the `gateway` command."""
    return only("CMD").words()


def health_check() -> list[str]:
    """The command of the health check, an exec form: the image has no shell to rely on."""
    _, _, command = only("HEALTHCHECK").rest.partition("CMD ")
    words = json.loads(command)
    assert isinstance(words, list)
    return words


def image_settings() -> Settings:
    """The settings that the image starts with, as the program reads them."""
    given = dict(zip(arguments()[1::2], arguments()[2::2], strict=True))
    flags = {flag.removeprefix("--").replace("-", "_"): value for flag, value in given.items()}
    return read_settings(flags, environment(), None)


def test_the_command_starts_the_installed_script() -> None:
    """A renamed script or sub-command would end the container at once."""
    assert only("ENTRYPOINT").words() == ["gateway"]
    assert "gateway" in PROJECT["scripts"]
    assert arguments()[0] == "serve"


def test_the_command_line_knows_every_flag_of_the_image() -> None:
    """The parser reads the whole line before it prints its help, so an unknown flag ends with an error."""
    run = subprocess.run(
        [sys.executable, "-c", "from gateway.cli import main; main()", *arguments(), "--help"],
        env={**os.environ, **environment(), "COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    for flag in [word for word in arguments() if word.startswith("--")]:
        assert flag in run.stdout


def test_the_program_knows_every_setting_of_the_image() -> None:
    """An unknown variable is silently nothing: the gateway would listen on the container's loopback only."""
    ours = {name for name in environment() if name.startswith("GATEWAY_")}
    assert ours <= {f"GATEWAY_{name.upper()}" for name in Settings.model_fields}


def test_it_listens_where_the_container_is_reached() -> None:
    """Loopback inside a container is reached by nobody; the exposed ports are those it listens on."""
    settings = image_settings()
    assert settings.listen.host == settings.admin_listen.host == "0.0.0.0"
    assert only("EXPOSE").words() == [str(settings.listen.port), str(settings.admin_listen.port)]


def test_its_folders_are_volumes_of_its_own_user() -> None:
    """A named volume takes its owner from the image: a folder of root could not be written to."""
    settings = image_settings()
    folders = {str(settings.data), str(settings.models), str(settings.config)}
    assert folders == {"/data", "/models", "/router_config"}
    assert set(only("VOLUME").words()) == folders
    before_volume = FINAL[: FINAL.index(only("VOLUME"))]
    made = [line for line in before_volume if line.verb == "RUN" and "install -d" in line.rest]
    assert len(made) == 1
    owner = only("USER").rest.partition(":")[0]
    assert re.search(rf"install -d -o {owner} .*", made[0].rest)
    assert folders <= set(made[0].words())


def test_it_does_not_run_as_root() -> None:
    """The user is a fixed number, so that a cluster can check it and a mounted folder can be given to it."""
    uid, _, gid = only("USER").rest.partition(":")
    assert int(uid) >= 10_000
    assert int(gid) >= 10_000
    accounts = " ".join(line.rest for line in FINAL if line.verb == "RUN")
    assert f"useradd --uid {uid} --gid {gid}" in accounts


def test_every_stage_starts_from_one_tagged_python_that_the_project_supports() -> None:
    """Wheels of one Python do not load in another, and `latest` is a different image each month."""
    images = {stage[0].words()[0] for stage in STAGES}
    assert len(STAGES) > 1
    assert len(images) == 1
    name, _, tag = images.pop().partition(":")
    assert name == "python"
    assert tag.endswith("-slim")
    assert f"{tag.removesuffix('-slim')}.0" in SpecifierSet(PROJECT["requires-python"])


def test_packages_come_from_the_locks_by_hash_and_nothing_else_is_fetched() -> None:
    """Every install either checks hashes or can not reach an index."""
    commands = [
        command
        for stage in STAGES
        for line in stage
        if line.verb == "RUN"
        for command in line.rest.split("&&")
        if re.search(r"pip (install|wheel|download)", command)
    ]
    assert any("-r requirements/runtime.txt" in command for command in commands)
    for command in commands:
        assert "--require-hashes -r requirements/" in command or "--no-index --no-deps" in command, command


def test_what_is_copied_exists_and_reaches_the_builder() -> None:
    """A path that .dockerignore hides fails the build with a message about a checksum."""
    ignored, *allowed = [line for line in (ROOT / ".dockerignore").read_text().split("\n") if line and line[0] != "#"]
    assert ignored == "*"
    patterns = [line[1:] for line in allowed if line.startswith("!")]
    for stage in STAGES:
        for line in stage:
            if line.verb == "COPY" and "--from" not in line.rest:
                for source in line.words()[:-1]:
                    assert (ROOT / source).exists(), source
                    assert any(fnmatch.fnmatch(source.rstrip("/"), pattern) for pattern in patterns), source


def test_the_image_has_what_training_needs() -> None:
    """`serve` retrains: its recipes and policies are in the image, at the folders it reads."""
    copied = {line.words()[0]: line.words()[-1] for line in FINAL if line.verb == "COPY"}
    assert copied["models/"] == f"{image_settings().models}/"
    assert copied["router_config/"] == f"{image_settings().config}/"


def test_the_linter_passes() -> None:
    """hadolint knows the usual mistakes."""
    linter = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if linter is None:
        pytest.skip("hadolint is not installed")
    run = subprocess.run([linter, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on now, all different."""
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(server.getsockname()[1]) for server in held]
    for server in held:
        server.close()
    return ports


@contextmanager
def started(command: list[str], env: dict[str, str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The command in a process group of its own; whatever is left of it at the end is killed."""
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env=env,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.end_to_end
@pytest.mark.slow
def test_the_image_s_command_serves_and_its_health_check_sees_it(tmp_path: Path) -> None:
    """The same command, environment and health check, with the folders and ports of this test."""
    settings = image_settings()
    serving, admin = free_ports(2)
    moved = {
        str(settings.data): str(tmp_path / "data"),
        str(settings.models): str(tmp_path / "models"),
        str(settings.config): str(tmp_path / "router_config"),
        str(settings.listen): f"{settings.listen.host}:{serving}",
        str(settings.admin_listen): f"{settings.admin_listen.host}:{admin}",
    }
    for source in ("models", "router_config"):
        shutil.copytree(ROOT / source, tmp_path / source)
    image = {name: moved.get(value, value) for name, value in environment().items()}
    outside = {name: value for name, value in os.environ.items() if not name.startswith("GATEWAY_")}
    check = [
        sys.executable,
        *(word.replace(f":{settings.listen.port}/", f":{serving}/") for word in health_check()[1:]),
    ]
    assert health_check()[0] == "python"
    assert "http://127.0.0.1:8080/livez" in health_check()[-1]

    def is_healthy() -> bool:
        return subprocess.run(check, capture_output=True, check=False, timeout=30).returncode == 0

    assert not is_healthy()
    command = [sys.executable, "-c", "from gateway.cli import main; main()"]
    words = [moved.get(word, word) for word in arguments()]
    with started([*command, *words], {**outside, **image}, tmp_path) as process:
        deadline = monotonic() + 60
        while not is_healthy():
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert monotonic() < deadline, (tmp_path / "log").read_text()
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(f"http://127.0.0.1:{admin}/admin/models", timeout=10)
        assert refused.value.code == 401
        refused.value.close()
        token = tmp_path / "data" / "admin-token"
        assert token.stat().st_mode & 0o777 == 0o600
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 0, (tmp_path / "log").read_text()
