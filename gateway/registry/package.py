"""The files of one version in a directory: `model.onnx`, `manifest.json`, `reference.json` and what else ships with it.

Every file besides the manifest is listed there with its SHA-256; the manifest's `digest` covers the model and the
contract, its `checksum` its own text. File names are fixed here or checked against one pattern: none is ever built
from what a user wrote. Must not know where packages are kept (a store's business), nor what a model computes.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from gateway.errors import CorruptPackage
from gateway.registry.manifest import Manifest
from gateway.registry.reference import REFERENCE_FILE

MODEL_FILE = "model.onnx"
MANIFEST_FILE = "manifest.json"
WARMUP_FILE = "warmup.json"
"""Rows that the model is known to run, for a package without a reference: {"warmup": [[...]]}."""

FORMAT = 1
_CHECKSUM_KEY = b'\n  "checksum": '
_NO_CHECKSUM = "0" * 64
_FILE_NAME = re.compile(r"[a-z][a-z0-9_-]{0,60}\.[a-z]{2,8}")
_NOTHING: Mapping[str, bytes] = MappingProxyType({})


def write_package(
    directory: Path,
    model: bytes,
    manifest: Manifest,
    reference: bytes | None = None,
    extra: Mapping[str, bytes] = _NOTHING,
) -> Manifest:
    """Write all files into `directory` (made when absent, must be empty) and return the completed manifest.

    Fills digest, size_bytes and files. extra: file name -> content; names are lower case with one extension.
    Nothing is synced to the disk: the store that takes the package does that. Raises ValueError for a wrong file name
    and FileExistsError when the directory holds anything.
    """
    # As it will be read: a range that was written 0 is read 0.0, and the digest is of its text.
    manifest = msgspec.convert(msgspec.to_builtins(manifest), Manifest)
    directory.mkdir(parents=True, exist_ok=True)
    if any(directory.iterdir()):
        raise FileExistsError(f"{directory} is not empty: a package is written into a new directory")
    files = {MODEL_FILE: model, **({} if reference is None else {REFERENCE_FILE: reference})}
    for name, content in extra.items():
        if name in {MODEL_FILE, MANIFEST_FILE, REFERENCE_FILE} or not _FILE_NAME.fullmatch(name):
            raise ValueError(f"{name!r} can not be a file of a package")
        files[name] = content
    complete = msgspec.structs.replace(
        manifest,
        digest=package_digest(model, manifest),
        size_bytes=len(model),
        files={name: _sha256(content) for name, content in files.items()},
        format=FORMAT,
    )
    for name, content in files.items():
        (directory / name).write_bytes(content)
    (directory / MANIFEST_FILE).write_bytes(encode_manifest(complete))
    return complete


def read_package(directory: Path) -> Manifest:
    """The manifest of a whole package. Raises CorruptPackage that names the file and the reason."""
    return read_files(directory)[0]


def read_files(directory: Path) -> tuple[Manifest, dict[str, bytes]]:
    """The manifest and every file it lists, each checked against its digest. Raises CorruptPackage."""
    manifest = decode_manifest(_read(directory, MANIFEST_FILE))
    if MODEL_FILE not in manifest.files:
        raise CorruptPackage(f"{MANIFEST_FILE}: does not list {MODEL_FILE}")
    _refuse_unlisted(directory, manifest)
    contents: dict[str, bytes] = {}
    for name, digest in manifest.files.items():
        if name == MANIFEST_FILE or not _FILE_NAME.fullmatch(name):
            raise CorruptPackage(f"{MANIFEST_FILE}: {name[:80]!r} can not be a file of a package")
        contents[name] = _read(directory, name)
        if _sha256(contents[name]) != digest:
            raise CorruptPackage(f"{name}: its content does not match the digest in {MANIFEST_FILE}")
    model = contents[MODEL_FILE]
    if len(model) != manifest.size_bytes:
        raise CorruptPackage(f"{MODEL_FILE}: has {len(model)} bytes, {MANIFEST_FILE} says {manifest.size_bytes}")
    if package_digest(model, manifest) != manifest.digest:
        raise CorruptPackage(f"{MANIFEST_FILE}: the contract does not match the digest")
    return manifest, contents


def package_digest(model: bytes, manifest: Manifest) -> str:
    """SHA-256 over the model's bytes and the contract (features and prediction), in hex.

    Lineage, gate report, card, number and times are left out: the same model under the same contract is the same
    version. Fields at their defaults are left out as well, so a field added later changes no old digest.
    """
    contract = {"features": [_set_fields(feature) for feature in manifest.features]}
    if manifest.prediction is not None:
        contract["prediction"] = [_set_fields(manifest.prediction)]
    digest = hashlib.sha256(len(model).to_bytes(8, "big"))
    digest.update(model)
    digest.update(msgspec.json.encode(contract, order="deterministic"))
    return digest.hexdigest()


def encode_manifest(manifest: Manifest) -> bytes:
    """The text of `manifest.json`, one key a line; its last, `checksum`, covers every byte of the text."""
    fields = {**msgspec.to_builtins(manifest), "checksum": _NO_CHECKSUM}
    text = msgspec.json.format(msgspec.json.encode(fields), indent=2) + b"\n"
    return _with_checksum(text, _sha256(text))


def decode_manifest(body: bytes) -> Manifest:
    """The manifest in a `manifest.json`. Raises CorruptPackage that names the wrong key."""
    try:
        manifest = msgspec.json.decode(body, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CorruptPackage(f"{MANIFEST_FILE}: {error}") from error
    if manifest.format != FORMAT:
        raise CorruptPackage(f"{MANIFEST_FILE}: format {manifest.format} is not known; this gateway reads {FORMAT}")
    blank = _with_checksum(body, _NO_CHECKSUM)
    if _with_checksum(blank, _sha256(blank)) != body:
        raise CorruptPackage(f"{MANIFEST_FILE}: its text does not match its checksum")
    return manifest


def _with_checksum(text: bytes, checksum: str) -> bytes:
    start, key, _ = text.rpartition(_CHECKSUM_KEY)
    return start + key + f'"{checksum}"\n}}\n'.encode()


def _set_fields(value: msgspec.Struct) -> dict[str, Any]:
    fields = msgspec.structs.fields(value)
    return {field.name: getattr(value, field.name) for field in fields if getattr(value, field.name) != field.default}


def _refuse_unlisted(directory: Path, manifest: Manifest) -> None:
    for path in sorted(directory.iterdir()):
        if path.name != MANIFEST_FILE and path.name not in manifest.files:
            raise CorruptPackage(f"{path.name[:80]!r}: is not listed in {MANIFEST_FILE}")


def _read(directory: Path, name: str) -> bytes:
    path = directory / name
    if path.is_symlink() or (path.exists() and not path.is_file()):
        raise CorruptPackage(f"{name}: is not a plain file")
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise CorruptPackage(f"{name}: is missing") from error
    except OSError as error:
        raise CorruptPackage(f"{name}: can not be read ({error.strerror})") from error


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
