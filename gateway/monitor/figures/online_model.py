"""One of river's online models as a learner of single rows: what a version predicts, learned label by label.

Any classifier or regressor of `river.tree`, `river.forest` or `river.linear_model` by its own dotted name. Linear
models see standardised numbers, regressions among them a standardised target too. Categories go to trees of classes as
they are and to everything else as hashed indicators, so that neither new categories nor many of them need memory. A
value that is missing is left out: river's trees send the row down the likelier branch, a linear model takes the mean.

river is imported at the first use. State: see `gateway.monitor.detectors.thaw`.
Sources: Bifet and Gavalda, Adaptive learning from evolving data streams, 2009 (Hoeffding adaptive trees); Gomes et al.,
Adaptive random forests for evolving data stream classification, 2017; Weinberger et al., Feature hashing, 2009.
"""

from __future__ import annotations

import importlib
import inspect
import math
import pickle
import zlib
from collections.abc import Sequence
from typing import Any, TypeAlias

from gateway.documents.policy import OnlineModel
from gateway.errors import Fault, InvalidConfig
from gateway.monitor.detectors.thaw import frozen, thawed
from gateway.monitor.figures.counts import positive_class
from gateway.registry.manifest import Feature, PredictionSpec
from gateway.registry.reference import category

Row: TypeAlias = dict[str, float | str]

_ROOMS = ("tree", "forest", "linear_model")
_TAKE_TEXT = ("Hoeffding", "ExtremelyFast", "LAST", "ARF")
_HASHES = 64
_LARGEST = 1e12
"""Numbers beyond are cut: their squares would not be numbers any more."""

FAILURES = (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What river's models raise on rows they cannot take."""


class Learner:
    """Predicts and learns one row at a time. spec: what kind of answers the champion gives.

    Raises InvalidConfig when river has no such model for them, or refuses the parameters. A state that cannot be read
    is dropped: the model is new.
    """

    def __init__(self, wanted: OnlineModel, spec: PredictionSpec, state: bytes = b"") -> None:
        made = _make(wanted, spec)
        kept = thawed(state, type(made))
        self._river = made if kept is None else kept
        self._is_class = spec.kind == "class"
        self._positive = positive_class(spec)
        self._negative = category(spec.classes[0]) if self._positive is not None else ""
        name = wanted.river.partition(".")[2]
        self._takes_text = name.endswith("Classifier") and name.startswith(_TAKE_TEXT)

    def row(self, inputs: Any, features: Sequence[Feature]) -> Row:
        """A row as river takes it; empty when its inputs were not kept, or do not fit.

        inputs: in the order of the features.
        """
        if not isinstance(inputs, list | tuple) or len(inputs) != len(features):
            return {}
        row: Row = {}
        for feature, value in zip(features, inputs, strict=True):
            if feature.kind == "numeric":
                if isinstance(value, int | float) and math.isfinite(value):
                    row[feature.name] = min(_LARGEST, max(-_LARGEST, float(value)))
            elif value is not None:
                text = category(value)
                if self._takes_text:
                    row[feature.name] = text
                else:
                    row[f"{feature.name}#{zlib.crc32(text.encode()) % _HASHES}"] = 1.0
        return row

    def predict(self, row: Row) -> str | float | None:
        """A class as text, or a number; None while it cannot tell. Raises one of FAILURES."""
        said = self._river.predict_one(row)
        if said is None:
            return None
        if not self._is_class:
            return float(said) if math.isfinite(said) else None
        if self._positive is None:
            return str(said)
        return self._positive if said else self._negative

    def learn(self, row: Row, label: Any) -> None:
        """One labelled row. label: as it came, without a fault. Raises one of FAILURES."""
        if not self._is_class:
            self._river.learn_one(row, float(label))
        elif self._positive is None:
            self._river.learn_one(row, category(label))
        else:
            self._river.learn_one(row, category(label) == self._positive)

    def state(self) -> bytes:
        """What it has learned. Raises one of FAILURES when it cannot be written."""
        try:
            return frozen(self._river)
        except pickle.PicklingError as error:
            raise ValueError(str(error)) from error


def _make(wanted: OnlineModel, spec: PredictionSpec) -> Any:
    base = importlib.import_module("river.base")
    is_class = spec.kind == "class"
    known = _known(base.Classifier if is_class else base.Regressor, base.MultiTargetRegressor)
    if wanted.river not in known:
        kind = "classifier" if is_class else "regressor"
        message = f"river has no online {kind} {wanted.river!r}; it has {', '.join(sorted(known))}"
        raise InvalidConfig(message, [Fault("river", f"no {kind} {wanted.river!r}")])
    made = _with_parameters(wanted, known[wanted.river])
    if is_class and len(spec.classes) != 2 and not getattr(made, "_multiclass", True):
        message = f"river's {wanted.river} tells two classes apart, the version has {len(spec.classes) or 'unnamed'}"
        raise InvalidConfig(message, [Fault("river", "takes two classes")])
    if not wanted.river.startswith("linear_model."):
        return made
    preprocessing = importlib.import_module("river.preprocessing")
    scaled = preprocessing.StandardScaler() | made
    return scaled if is_class else preprocessing.TargetStandardScaler(regressor=scaled)


def _known(kind: type[Any], left_out: type[Any]) -> dict[str, type[Any]]:
    return {
        f"{room}.{name}": found
        for room in _ROOMS
        for name, found in vars(importlib.import_module(f"river.{room}")).items()
        if inspect.isclass(found) and issubclass(found, kind) and not issubclass(found, left_out)
    }


def _with_parameters(wanted: OnlineModel, made_by: type[Any]) -> Any:
    given = dict(wanted.parameters)
    if "seed" in inspect.signature(made_by).parameters:
        given.setdefault("seed", 0)  # the same journal must give the same figures
    try:
        return made_by(**given)
    except FAILURES as error:
        raise InvalidConfig(f"river's {wanted.river}: {error}", [Fault("parameters", str(error))]) from error
