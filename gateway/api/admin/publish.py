"""Publishing a version: what was uploaded becomes a package, is checked in a limited child, and gets its number.

The same model and contract again are the same version: it is named, and nothing starts. Publishing changes no route.
`publish` is used by the API and by the command that works on a data directory.
"""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message

from gateway import metrics
from gateway.api.admin.call import Asked, Call
from gateway.api.body import ClientGone, strict
from gateway.api.problems import json_response
from gateway.clock import Clock
from gateway.documents.store import ABSENT, AuditEntry, ConfigStore
from gateway.documents.token import Scope
from gateway.errors import Fault, InvalidInput, PayloadTooLarge, RevisionConflict, VersionExists
from gateway.execution.admission import AdmissionServer, Limits, admit_async
from gateway.names import ModelName, VersionId
from gateway.registry.manifest import Feature, Manifest
from gateway.registry.reference import build_reference, encode_reference, read_reference
from gateway.registry.registry import Registry
from gateway.registry.sample import read_sample
from gateway.rollout.eligibility import next_step
from gateway.rollout.present import find, read_present
from gateway.settings import Settings

_PARTS = ("model", "manifest", "reference")
_MAX_PARTS = 8


class Upload(Struct, frozen=True, kw_only=True):
    """What a publisher gives. manifest: any part of it as decoded JSON. reference: `reference.json`; sample: CSV."""

    model: bytes
    manifest: dict[str, Any] = {}
    reference: bytes | None = None
    sample: str | None = None


class Published(Struct, frozen=True, kw_only=True):
    """The version, whether it is new, and what happens next with the command that would start it."""

    version: VersionId
    is_new: bool
    next: str


async def publish(
    config: ConfigStore,
    registry: Registry,
    clock: Clock,
    limits: Limits,
    server: AdmissionServer | None,
    model: ModelName,
    upload: Upload,
    actor: str,
) -> Published:
    """Check, write, publish. Raises AdmissionRefused, InvalidInput, InvalidConfig, CorruptPackage."""
    draft, reference = draft_of(model, upload, clock.now())
    with tempfile.TemporaryDirectory(prefix="gateway-publish-") as directory:
        package = Path(directory) / "package"
        await admit_async(upload.model, draft, package, limits, reference, server)
        try:
            version = await registry.publish(package)
        except VersionExists as exists:
            known = VersionId.parse(exists.existing)
            if await _is_unwritten(config, registry, known):
                await _write_down(config, known, actor, clock, "an earlier publish of it was cut off")
            return await _published(config, registry, known, is_new=False)
    metrics.published.labels(model).inc()
    await _write_down(config, version, actor, clock)
    return await _published(config, registry, version, is_new=True)


async def _write_down(config: ConfigStore, version: VersionId, actor: str, clock: Clock, reason: str = "") -> None:
    """Who published the version, with its audit entry; once, whoever comes first."""
    body = msgspec.json.encode({"version": str(version), "actor": actor, "time": clock.now()})
    entry = AuditEntry(actor=actor, action="publish", subject=str(version), reason=reason, after=body.decode())
    with suppress(RevisionConflict):
        await config.put(_publication(version), body, ABSENT, entry)


async def _is_unwritten(config: ConfigStore, registry: Registry, version: VersionId) -> bool:
    """True when an upload became this version and the process ended before it wrote that down. Jobs have records."""
    written, _ = await find(config, _publication(version), bytes)
    sources = {manifest.number: manifest.lineage.source for manifest in await registry.versions(version.model)}
    return written is None and sources.get(version.number) == "file"


def _publication(version: VersionId) -> str:
    return f"publications/{version}"


def draft_of(model: ModelName, upload: Upload, now: float) -> tuple[Manifest, bytes | None]:
    """The manifest as far as the publisher knows it, and the reference. Pure. Raises InvalidInput, InvalidConfig.

    Only the supervisor publishes what a job made: an upload can not claim to be that, nor to answer an alert.
    """
    given = {"model": model, **upload.manifest}
    try:
        draft = msgspec.convert(given, Manifest)
    except msgspec.ValidationError as error:
        raise _bad("/manifest", str(error)) from None
    if draft.model != model:
        raise _bad("/manifest/model", f"is {draft.model[:100]!r}, the path says {model!r}")
    lineage = msgspec.structs.replace(draft.lineage, source="file", alert="")
    draft = msgspec.structs.replace(draft, number=0, created=now, lineage=lineage)
    if upload.sample is None:
        _check_reference(upload.reference, draft)
        return draft, upload.reference
    features, rows = read_sample(upload.sample, [feature.name for feature in draft.features])
    reference = build_reference(features, rows)
    return msgspec.structs.replace(draft, features=_merged(draft.features, features)), encode_reference(reference)


def _check_reference(reference: bytes | None, draft: Manifest) -> None:
    """A reference that the monitor can not read, or that is of other features, would watch nothing."""
    if reference is None:
        return
    known = [column.name for column in read_reference(reference).features]
    named = [feature.name for feature in draft.features]
    if named and known != named:
        raise _bad("part reference", f"is of the features {', '.join(known)}, the manifest names {', '.join(named)}")


def _merged(given: tuple[Feature, ...], sampled: tuple[Feature, ...]) -> tuple[Feature, ...]:
    """What the publisher wrote of a feature wins over what the sample shows."""
    bare = {feature.name: Feature(name=feature.name) for feature in given}
    written = {feature.name: feature for feature in given if feature != bare[feature.name]}
    return tuple(written.get(feature.name, feature) for feature in sampled)


async def _published(config: ConfigStore, registry: Registry, version: VersionId, is_new: bool) -> Published:
    present = await read_present(config, registry, version.model)
    manifest, condition = present.manifests[version.number], present.condition(version.number)
    text = next_step(present.policy, present.route, manifest, condition)
    return Published(version=version, is_new=is_new, next=text)


async def publish_version(asked: Asked) -> Response:
    """Publish a package (multipart: `model`, and where there are any `manifest` and `reference`)."""
    upload = await read_upload(asked.request, asked.settings)
    done = await publish(
        asked.ports.config,
        asked.ports.registry,
        asked.ports.clock,
        limits_of(asked.settings),
        asked.ports.admission,
        asked.model,
        upload,
        asked.actor,
    )
    return json_response(published_view(done), 201 if done.is_new else 200)


def published_view(done: Published) -> dict[str, Any]:
    """The answer of a publish."""
    return {
        "version": str(done.version),
        "model": done.version.model,
        "number": done.version.number,
        "new": done.is_new,
        "next": done.next,
    }


def limits_of(settings: Settings) -> Limits:
    """What a publish check may use."""
    return Limits(seconds=settings.admission_seconds, memory_bytes=settings.admission_bytes)


async def read_upload(request: Request, settings: Settings) -> Upload:
    """The parts of a multipart body, limited while they are read. Raises InvalidInput, PayloadTooLarge."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "multipart/form-data":
        raise _bad("header Content-Type", "must be multipart/form-data with the parts model, manifest, reference")
    limited = Request(request.scope, _limited(request, settings.max_package_bytes))
    try:
        form = await limited.form(max_files=_MAX_PARTS, max_fields=_MAX_PARTS, max_part_size=settings.max_body_bytes)
    except HTTPException as error:
        raise _bad("the body", f"can not be read as multipart/form-data: {error.detail}") from None
    try:
        parts = await _parts(form)
    finally:
        await form.close()
    return upload_of(parts)


async def _parts(form: FormData) -> dict[str, tuple[bytes, str]]:
    """Content and file name of each part. Raises InvalidInput."""
    parts: dict[str, tuple[bytes, str]] = {}
    for field, value in form.multi_items():
        name = field.partition(".")[0]
        if name == "warmup":
            continue  # made anew by the check
        if name not in _PARTS:
            raise _bad(f"part {field[:100]!r}", f"is not one of {', '.join(_PARTS)}")
        if name in parts:
            raise _bad(f"part {name}", "is given twice")
        if isinstance(value, UploadFile):
            parts[name] = (await value.read(), value.filename or "")
        else:
            parts[name] = (value.encode(), "")
    return parts


def _manifest_in(content: bytes) -> dict[str, Any]:
    try:
        manifest = strict(content)
    except InvalidInput as error:
        faults = [Fault(f"/manifest{fault.pointer}", fault.detail) for fault in error.faults]
        raise InvalidInput(f"/manifest: {error}", faults) from None
    if not isinstance(manifest, dict):
        raise _bad("/manifest", "must be a JSON object")
    return manifest


def upload_of(parts: dict[str, tuple[bytes, str]]) -> Upload:
    """The upload in parts of (content, file name). Raises InvalidInput."""
    if not parts.get("model", (b"", ""))[0]:
        raise _bad("part model", "is required: the ONNX file")
    manifest = _manifest_in(parts["manifest"][0]) if "manifest" in parts else {}
    reference, sample = None, None
    if "reference" in parts:
        content, file_name = parts["reference"]
        if file_name.endswith(".json") or content.lstrip()[:1] == b"{":
            reference = content
        else:
            sample = _text(content)
    return Upload(model=parts["model"][0], manifest=manifest, reference=reference, sample=sample)


def _text(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _bad("part reference", "must be CSV in UTF-8, or a reference.json") from None


def _limited(request: Request, limit: int) -> Any:
    """The request's receive, cut off at the limit. Raises PayloadTooLarge, before reading where the length is known."""
    length = request.headers.get("content-length", "0")
    if length.isdigit() and int(length) > limit:
        raise _too_large(limit)
    size = 0

    async def receive() -> Message:
        nonlocal size
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        size += len(message.get("body", b""))
        if size > limit:
            raise _too_large(limit)
        return message

    return receive


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"the package is over the limit of {limit} bytes (setting max_package_bytes)")


def _bad(pointer: str, detail: str) -> InvalidInput:
    return InvalidInput(f"{pointer} {detail}", [Fault(pointer, detail)])


CALLS = (Call("POST", "/admin/models/{model}/versions", Scope.PUBLISH, publish_version),)
