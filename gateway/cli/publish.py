"""`gateway publish`: a new version, to a running gateway or into its data directory."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.cli.directory import opened
from gateway.cli.remote import AsJson, Data, Token, Url, connected, show, usage

Publish = Callable[[str, Mapping[str, tuple[str, bytes]]], dict[str, Any]]
"""Takes the model's name and the parts (field -> file name, content); answers as the API does."""


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command()(publish)


def publish(
    name: Annotated[str | None, typer.Argument(help="name of the model", show_default=False)] = None,
    model: Annotated[Path | None, typer.Argument(help="the ONNX file, or a package directory")] = None,
    features: Annotated[str | None, typer.Option(help="column names in order, with commas")] = None,
    reference: Annotated[
        Path | None, typer.Option(help="sample of rows (CSV with a header) for contract and monitor")
    ] = None,
    mlflow: Annotated[
        str | None, typer.Option(metavar="URI", help="take the ONNX model from MLflow: models:/fraud@champion")
    ] = None,
    mlflow_server: Annotated[
        str | None, typer.Option("--mlflow-server", help="address of MLflow's tracking server [what MLflow is set to]")
    ] = None,
    all_in: Annotated[
        Path | None, typer.Option("--all", help="publish FOLDER/<name>/[<number>/]model.onnx, each in one pass")
    ] = None,
    url: Url = None,
    token: Token = None,
    data: Data = None,
    as_json: AsJson = False,
) -> None:
    """Publish a version; prints NAME@N, then what happens next. Publishing alone moves no traffic."""
    if all_in is not None:
        if name is not None or features is not None or reference is not None:
            raise usage("--all takes a folder and nothing else")
        _publish_all(all_in, url, token, data, as_json)
        return
    if name is None or (model is None) == (mlflow is None):
        raise usage("name the model and its file: gateway publish NAME model.onnx, or NAME --mlflow models:/NAME@ALIAS")
    if model is not None:
        parts = read_parts(model, features, reference)
    else:
        parts = _parts_from_mlflow(str(mlflow), mlflow_server, features, reference)
    with publisher(url, token, data) as send:
        show_published([send(name, parts)], as_json)


def _parts_from_mlflow(
    uri: str, server: str | None, features: str | None, reference: Path | None
) -> dict[str, tuple[str, bytes]]:
    import tempfile

    from gateway.retraining.tracking import fetch_model

    with tempfile.TemporaryDirectory(prefix="gateway-mlflow-") as directory:
        return read_parts(fetch_model(uri, server, Path(directory)), features, reference)


def read_parts(model: Path, features: str | None = None, reference: Path | None = None) -> dict[str, tuple[str, bytes]]:
    """The parts of an upload: an ONNX file with what was said of it, or a whole package directory."""
    import json

    if model.is_dir():
        names = ("model.onnx", "manifest.json", "reference.json")
        files = {name.partition(".")[0]: model / name for name in names if (model / name).is_file()}
        if "model" not in files:
            raise usage(f"{model} holds no model.onnx")
        return {part: (file.name, file.read_bytes()) for part, file in files.items()}
    if not model.is_file():
        raise usage(f"there is no file {model}")
    parts = {"model": ("model.onnx", model.read_bytes())}
    if features is not None:
        manifest = {"features": [{"name": feature.strip()} for feature in features.split(",")]}
        parts["manifest"] = ("manifest.json", json.dumps(manifest).encode())
    if reference is not None:
        if not reference.is_file():
            raise usage(f"there is no file {reference}")
        parts["reference"] = (reference.name, reference.read_bytes())
    return parts


@contextmanager
def publisher(url: str | None, token: str | None, data: Path | None) -> Iterator[Publish]:
    """How to publish: to the data directory when one is named (and no address), else to a running gateway."""
    if data is not None and url is None:
        with _directory_publisher(data) as send:
            yield send
        return
    from gateway.client import Call, model_path

    with connected(url, token, data, seconds=300.0) as client:

        def post(name: str, parts: Mapping[str, tuple[str, bytes]]) -> dict[str, Any]:
            content: dict[str, Any] = client.send(Call("POST", model_path(name, "/versions"), files=parts))
            return content

        yield post


@contextmanager
def _directory_publisher(data: Path) -> Iterator[Publish]:
    import asyncio

    from gateway.api.admin import publish as publishing
    from gateway.clock import SystemClock
    from gateway.errors import InvalidInput
    from gateway.execution.admission import AdmissionServer
    from gateway.names import model_name
    from gateway.settings import Settings

    with opened(data) as stores, AdmissionServer() as server:
        limits = publishing.limits_of(Settings(data=data))

        def write(name: str, parts: Mapping[str, tuple[str, bytes]]) -> dict[str, Any]:
            try:
                model = model_name(name)
            except ValueError as error:
                raise InvalidInput(str(error)) from None
            upload = publishing.upload_of({part: (content, file) for part, (file, content) in parts.items()})
            done = asyncio.run(
                publishing.publish(
                    stores.config, stores.registry, SystemClock(), limits, server, model, upload, "command"
                )
            )
            return publishing.published_view(done)

        yield write


def _publish_all(folder: Path, url: str | None, token: str | None, data: Path | None, as_json: bool) -> None:
    found = list(models_in(folder))
    if not found:
        raise usage(f"{folder} holds no <name>/model.onnx and no <name>/<number>/model.onnx")
    from gateway.client import Refused
    from gateway.errors import GatewayError

    done, failed = [], []
    with publisher(url, token, data) as send:
        for name, directory in found:
            try:
                done.append(send(name, read_parts(directory)))
            except (Refused, GatewayError) as error:
                failed.append({"path": str(directory), "error": str(error)})
    show_published(done, as_json, failed)
    if failed:
        raise typer.Exit(1)


def models_in(folder: Path) -> Iterator[tuple[str, Path]]:
    """Name and directory of every model in `<name>/` or `<name>/<number>/`, numbers in their order."""
    for file in sorted(folder.glob("*/model.onnx")):
        yield file.parent.name, file.parent
    numbered = [file.parent for file in folder.glob("*/*/model.onnx") if re.fullmatch(r"\d+", file.parent.name)]
    for directory in sorted(numbered, key=lambda path: (path.parent.name, int(path.name))):
        yield directory.parent.name, directory


def show_published(done: Sequence[dict[str, Any]], as_json: bool, failed: Sequence[dict[str, str]] = ()) -> None:
    lines = [f"{one['version']}\n{'' if one['new'] else 'published before; '}{one['next']}" for one in done]
    lines += [f"refused {one['path']}: {one['error']}" for one in failed]
    content: Any = {"published": list(done), "failed": list(failed)} if len(done) != 1 or failed else done[0]
    show(content, as_json, *lines)
