"""Columns of the Parquet export when versions of a model changed their features."""

from __future__ import annotations

from gateway.api.export import feature_kinds
from gateway.registry.manifest import Feature, Manifest, Tensor


def version(**datatypes: str) -> Manifest:
    tensors = tuple(Tensor(name=name, datatype=kind, shape=(-1, 1)) for name, kind in datatypes.items())
    return Manifest(model="m", inputs=tensors, features=tuple(Feature(name=name, input=name) for name in datatypes))


def test_a_feature_has_the_type_that_holds_what_every_version_took() -> None:
    """Numbers that were whole once and are not now are numbers; a code that became a text is text."""
    found = feature_kinds([version(a="INT64", b="FP32", c="INT64"), version(a="FP32", c="BYTES", d="BOOL")])
    assert found == {"a": "f", "b": "f", "c": "O", "d": "b"}
    assert feature_kinds([]) == {}
