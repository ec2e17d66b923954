"""A package is whole or refused: every file has a digest, and the digest of the contract is the version's identity."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import CorruptPackage
from gateway.registry.manifest import Feature, GateReport, Lineage, Manifest, PredictionSpec
from gateway.registry.package import (
    decode_manifest,
    encode_manifest,
    package_digest,
    read_files,
    read_package,
    write_package,
)

MODEL = b"the bytes of a model"
DRAFT = Manifest(
    model="electricity",
    features=(Feature(name="price", low=0.0, high=1.0, input="X", position=0),),
    prediction=PredictionSpec(output="label", kind="class", classes=(0, 1)),
)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    write_package(tmp_path / "p", MODEL, DRAFT, b'{"warmup": []}', {"card.md": b"# card"})
    return tmp_path / "p"


def rewrite(package: Path, **fields: object) -> None:
    manifest = msgspec.structs.replace(read_package(package), **fields)
    (package / "manifest.json").write_bytes(encode_manifest(manifest))


def test_what_is_written_is_read_again(package: Path) -> None:
    """Digest, size and file list are filled in, and the content comes back."""
    manifest, files = read_files(package)
    assert manifest.size_bytes == len(MODEL)
    assert manifest.digest == package_digest(MODEL, DRAFT)
    assert files == {"model.onnx": MODEL, "reference.json": b'{"warmup": []}', "card.md": b"# card"}
    assert msgspec.structs.replace(manifest, digest="", size_bytes=0, files={}) == DRAFT


def test_the_number_given_by_a_registry_changes_no_digest(package: Path) -> None:
    """A registry writes the number, times and gate into the manifest; identity is model and contract alone."""
    rewrite(package, number=3, created=5.0, lineage=Lineage(source="job"), gate=GateReport(passed=True))
    assert read_package(package).number == 3


@pytest.mark.parametrize(
    "change",
    [
        {"features": (Feature(name="price", low=0.0, high=2.0, input="X", position=0),)},
        {"features": ()},
        {"prediction": None},
        {"prediction": PredictionSpec(output="label", kind="class", classes=(1, 0))},
    ],
)
def test_another_contract_is_another_version(change: dict[str, object]) -> None:
    """The same file under another contract must not be taken for the same version."""
    assert package_digest(MODEL, msgspec.structs.replace(DRAFT, **change)) != package_digest(MODEL, DRAFT)


@pytest.mark.parametrize("name", ["model.onnx", "reference.json", "card.md"])
def test_a_damaged_file_is_named(package: Path, name: str) -> None:
    """One flipped bit anywhere is found."""
    content = bytearray((package / name).read_bytes())
    content[len(content) // 2] ^= 1
    (package / name).write_bytes(content)
    with pytest.raises(CorruptPackage, match=name):
        read_package(package)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_every_bit_flip_in_a_manifest_is_found(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Signature, gate report and lineage are not part of the digest, yet a damaged one must not be believed."""
    package = tmp_path_factory.mktemp("flip") / "p"
    write_package(package, MODEL, DRAFT)
    content = bytearray((package / "manifest.json").read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (package / "manifest.json").write_bytes(content)
    with pytest.raises(CorruptPackage, match=r"manifest\.json"):
        read_package(package)


def test_a_manifest_edited_by_hand_is_refused(package: Path) -> None:
    """A gate report is a claim that a rollout acts on."""
    text = (package / "manifest.json").read_text()
    (package / "manifest.json").write_text(text.replace('"passed": null', '"passed": true'))
    with pytest.raises(CorruptPackage, match="checksum"):
        read_package(package)


@given(st.text(max_size=30), st.dictionaries(st.text(max_size=10), st.text(max_size=10), max_size=3))
def test_any_manifest_is_read_as_it_was_written(source: str, card: dict[str, str]) -> None:
    """Cards are free text: no text in them may be taken for the checksum."""
    manifest = msgspec.structs.replace(DRAFT, lineage=Lineage(source=source), card={**card, "checksum": source})
    assert decode_manifest(encode_manifest(manifest)) == manifest


def test_a_missing_file_is_named(package: Path) -> None:
    (package / "reference.json").unlink()
    with pytest.raises(CorruptPackage, match=r"reference\.json: is missing"):
        read_package(package)


def test_a_file_that_is_not_listed_is_refused(package: Path) -> None:
    """External data beside the model would be such a file."""
    (package / "weights.bin").write_bytes(b"x")
    with pytest.raises(CorruptPackage, match=r"weights\.bin.*not listed"):
        read_package(package)


def test_a_wrong_digest_is_refused(package: Path) -> None:
    rewrite(package, digest="0" * 64)
    with pytest.raises(CorruptPackage, match="digest"):
        read_package(package)


def test_a_changed_contract_is_refused(package: Path) -> None:
    """The files are right, but somebody edited the ranges by hand."""
    rewrite(package, features=())
    with pytest.raises(CorruptPackage, match="contract"):
        read_package(package)


def test_a_wrong_size_is_refused(package: Path) -> None:
    rewrite(package, size_bytes=3)
    with pytest.raises(CorruptPackage, match="bytes"):
        read_package(package)


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/passwd", "a/b.bin", "manifest.json", "Model.ONNX", ""])
def test_no_path_comes_out_of_a_manifest(package: Path, name: str) -> None:
    """Names in a manifest are text of a stranger."""
    manifest = read_package(package)
    rewrite(package, files={**manifest.files, name: "0" * 64})
    with pytest.raises(CorruptPackage, match="can not be a file"):
        read_package(package)


def test_a_link_is_not_a_file_of_a_package(package: Path, tmp_path: Path) -> None:
    """A link could show another content at the next look."""
    (tmp_path / "elsewhere").write_bytes(MODEL)
    (package / "model.onnx").unlink()
    (package / "model.onnx").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CorruptPackage, match="plain file"):
        read_package(package)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"model": 3}', b'{"number": 1}', b"\xff\xfe", b'{"model":"m","format":9}']
)
def test_a_broken_manifest_is_refused(body: bytes) -> None:
    with pytest.raises(CorruptPackage, match=r"manifest\.json"):
        decode_manifest(body)


def test_a_manifest_without_a_model_is_refused(package: Path) -> None:
    rewrite(package, files={})
    with pytest.raises(CorruptPackage, match=r"does not list model\.onnx"):
        read_package(package)


@pytest.mark.parametrize("name", ["model.onnx", "manifest.json", "reference.json", "../x.json", "x", "A.json"])
def test_extra_files_have_plain_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="can not be a file"):
        write_package(tmp_path / "p", MODEL, DRAFT, extra={name: b""})


def test_a_package_is_written_into_a_new_directory(package: Path) -> None:
    """Two packages in one directory would make a third."""
    with pytest.raises(FileExistsError):
        write_package(package, MODEL, DRAFT)


def test_default_fields_are_not_part_of_the_digest() -> None:
    """A field added to the contract later must not make every published version corrupt."""
    assert package_digest(MODEL, DRAFT) == "7da64e09f423b087bfe5e6b37d4005dbd6dc9839f7f52d692daa94947bf484af"


def test_a_range_in_whole_numbers_is_the_same_range(tmp_path: Path) -> None:
    """Recipes write `low=0`; read again it is 0.0, and the digest must not change on the way."""
    digests = []
    for name, low in (("whole", 0), ("fraction", 0.0)):
        manifest = Manifest(model="m", features=(Feature(name="a", low=low),))
        digests.append(write_package(tmp_path / name, b"model", manifest).digest)
        assert read_package(tmp_path / name).digest == digests[-1]
    assert digests[0] == digests[1]
