"""What a cell of a file is as a value of a record: the header against the features, text as numbers, gaps as missing.

Pure. A value that does not fit is handed on as it is: the contract alone says what is wrong with it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from gateway.errors import Fault, InvalidConfig
from gateway.execution.tensors import BY_NAME
from gateway.registry.manifest import Manifest

MISSING = frozenset({"", "na", "nan", "null", "none", "?"})
"""Cells (in small letters) that say that there is no value: those of a reference sample."""

_TRUTHS = {"true": True, "1": True, "false": False, "0": False}


class Layout(NamedTuple):
    """Where a file's columns go. places: of each feature, -1: there is none. kept: of the columns that are kept."""

    places: tuple[int, ...]
    kept: tuple[int, ...]
    absent: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def layout(names: Sequence[str], manifest: Manifest, keep: Sequence[str] | None, added: Sequence[str]) -> Layout:
    """Match a header with the features. keep: None keeps all columns. added: what scoring will add.

    A feature that may be missing needs no column. unknown: columns that are no feature. Raises InvalidConfig that names
    every missing column and what was expected.
    """
    _check_header(names)
    there = {name: place for place, name in enumerate(names)}
    absent = [feature for feature in manifest.features if feature.name not in there]
    if missing := [feature.name for feature in absent if not feature.may_be_missing]:
        wanted = ", ".join(feature.name for feature in manifest.features)
        detail = f"the input has no column {_listed(missing)}; {manifest.version} takes {wanted}"
        faults = [Fault(name, "there is no such column") for name in missing]
        raise InvalidConfig(f"{detail}; the input has {', '.join(names)}", faults)
    if wrong := [name for name in keep or () if name not in there]:
        raise InvalidConfig(f"--keep {_listed(wrong)}: the input has no such column; it has {', '.join(names)}")
    kept = [place for place, name in enumerate(names) if keep is None or name in keep]
    if taken := [names[place] for place in kept if names[place] in added]:
        raise InvalidConfig(
            f"the input has a column {_listed(taken)} itself: name the columns to keep with --keep, without it"
        )
    features = {feature.name for feature in manifest.features}
    return Layout(
        places=tuple(there.get(feature.name, -1) for feature in manifest.features),
        kept=tuple(kept),
        absent=tuple(feature.name for feature in absent),
        unknown=tuple(name for name in names if name not in features),
    )


def readers(manifest: Manifest) -> list[Callable[[str], Any]]:
    """For each feature what makes a value of a cell's text."""
    tensors = {tensor.name: tensor for tensor in manifest.inputs}
    by_kind: dict[str, Callable[[str], Any]] = {"O": _text, "b": _truth, "i": _whole, "u": _whole, "f": _number}
    return [by_kind[BY_NAME[tensors[feature.input].datatype].numpy.kind] for feature in manifest.features]


def plain(value: Any) -> Any:
    """A value of a typed file as JSON would bring it: NaN is how tables write that there is none."""
    return None if isinstance(value, float) and math.isnan(value) else value


def _check_header(names: Sequence[str]) -> None:
    if not names or not all(names):
        raise InvalidConfig("the input's first line must name every column")
    if twice := [name for name in dict.fromkeys(names) if list(names).count(name) > 1]:
        raise InvalidConfig(f"the input names the column {_listed(twice)} more than once")


def _text(cell: str) -> str | None:
    return None if cell.strip().lower() in MISSING else cell


def _truth(cell: str) -> Any:
    text = cell.strip().lower()
    return None if text in MISSING else _TRUTHS.get(text, cell)


def _whole(cell: str) -> Any:
    try:
        return int(cell)
    except ValueError:
        return _number(cell)


def _number(cell: str) -> Any:
    try:
        number = float(cell)
    except ValueError:
        return None if cell.strip().lower() in MISSING else cell
    return None if number != number else number


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)
