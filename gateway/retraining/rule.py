"""A heuristic as a version: rules over features, the first that holds answers. Nothing is learned.

    from gateway.retraining.rule import Rule, RuleClassifier

    def heuristic():
        return RuleClassifier(names, [Rule(then=1, when=[("amount", ">", 900), ("age", "<", 21)])], otherwise=0)

A candidate of a recipe like any other: judged on the same holdout, converted, published with the same contract, and
replaced when a trained one is better. For recipes only, which run where training libraries may be loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin

Condition = tuple[str, str, float]
"""A feature, one of OPERATORS, and a number; ("age", "missing", 0) holds where there is no value."""

FloatArray = NDArray[np.float32]

OPERATORS: Mapping[str, tuple[str, Callable[[FloatArray, np.float32], Any]]] = {
    ">": ("Greater", np.greater),
    ">=": ("GreaterOrEqual", np.greater_equal),
    "<": ("Less", np.less),
    "<=": ("LessOrEqual", np.less_equal),
    "==": ("Equal", np.equal),
    "missing": ("IsNaN", lambda column, _: np.isnan(column)),
}
"""Each with its ONNX operator and what it does; a missing value fulfils `missing` alone."""


class Rule(NamedTuple):
    """What to answer when every condition holds."""

    then: Any
    when: Sequence[Condition]


class _Rules(BaseEstimator):  # type: ignore[misc]
    """names: the features in order. rules: tried in this order. otherwise: the answer where none holds."""

    def __init__(self, names: Sequence[str], rules: Sequence[Rule], otherwise: Any) -> None:
        self.names = names
        self.rules = rules
        self.otherwise = otherwise

    @property
    def answers(self) -> list[Any]:
        """What each rule says, then what holds otherwise."""
        return [*(rule.then for rule in self.rules), self.otherwise]

    def fit(self, features: Any, labels: Any) -> Self:
        """Check the rules; the rows are not looked at. Raises ValueError that names what is wrong."""
        if not self.rules:
            raise ValueError("rules: give at least one; what always holds is `otherwise`")
        for place, rule in enumerate(self.rules, start=1):
            if not rule.when:
                raise ValueError(f"rule {place} has no condition: what always holds is `otherwise`")
            for name, operator, _ in rule.when:
                if name not in self.names:
                    raise ValueError(f"rule {place}: {name!r} is no feature; features are {', '.join(self.names)}")
                if operator not in OPERATORS:
                    raise ValueError(f"rule {place}: {operator!r} is not one of {', '.join(OPERATORS)}")
        _register()
        return self._made()

    def _made(self) -> Self:
        return self

    def firsts(self, features: FloatArray) -> NDArray[np.int64]:
        """For each row the place of the first rule that holds; behind the last one where none does."""
        found = np.full(len(features), len(self.rules), dtype=np.int64)
        for place in reversed(range(len(self.rules))):
            holds = np.ones(len(features), dtype=bool)
            for name, operator, number in self.rules[place].when:
                column = features[:, list(self.names).index(name)].astype(np.float32)
                holds &= OPERATORS[operator][1](column, np.float32(number))
            found[holds] = place
        return found


class RuleClassifier(ClassifierMixin, _Rules):  # type: ignore[misc]
    """Rules whose answers are classes. Its probabilities are 1 and 0."""

    def _made(self) -> Self:
        self.classes_ = np.unique(np.array(self.answers))
        return self

    def predict(self, features: Any) -> NDArray[Any]:
        """The class of each row."""
        said: NDArray[Any] = np.array(self.answers)[self.firsts(features)]
        return said

    def predict_proba(self, features: Any) -> NDArray[np.float32]:
        """1 for the class that is said."""
        shares: NDArray[np.float32] = self.table()[self.firsts(features)]
        return shares

    def table(self) -> NDArray[np.float32]:
        """The probability row of each answer."""
        is_said: NDArray[Any] = np.array(self.answers)[:, None] == self.classes_[None, :]
        return is_said.astype(np.float32)


class RuleRegressor(RegressorMixin, _Rules):  # type: ignore[misc]
    """Rules whose answers are numbers."""

    def predict(self, features: Any) -> NDArray[np.float32]:
        """The value of each row."""
        said: NDArray[np.float32] = np.array(self.answers, dtype=np.float32)[self.firsts(features)]
        return said


def _register() -> None:
    """Tell skl2onnx how rules are written."""
    from skl2onnx import update_registered_converter

    options = {"zipmap": [True, False, "columns"], "raw_scores": [True, False], "output_class_labels": [True, False]}
    for kind, alias in ((RuleClassifier, "GatewayRuleClassifier"), (RuleRegressor, "GatewayRuleRegressor")):
        more = {"options": options} if kind is RuleClassifier else {}
        update_registered_converter(kind, alias, _shape, _convert, overwrite=True, **more)


def _shape(operator: Any) -> None:
    """Types and shapes of the outputs."""
    from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType

    estimator, rows = operator.raw_operator, operator.inputs[0].get_first_dimension()
    if isinstance(estimator, RuleRegressor):
        operator.outputs[0].type = FloatTensorType([rows, 1])
        return
    is_text = estimator.classes_.dtype.kind == "U"
    operator.outputs[0].type = StringTensorType([rows]) if is_text else Int64TensorType([rows])
    operator.outputs[1].type = FloatTensorType([rows, len(estimator.classes_)])


def _convert(scope: Any, operator: Any, container: Any) -> None:
    """The place of the first rule that holds, then the rows of the tables of answers at that place."""
    from onnx import TensorProto

    estimator: _Rules = operator.raw_operator
    graph = _Graph(scope, container, operator.inputs[0].full_name)
    place = graph.place_of(estimator)
    if isinstance(estimator, RuleClassifier):
        answers = np.array(estimator.answers)
        is_text = answers.dtype.kind == "U"
        kind = TensorProto.STRING if is_text else TensorProto.INT64
        names = graph.constant([str(one).encode() for one in answers] if is_text else answers.tolist(), kind)
        graph.add("Gather", [names, place], operator.outputs[0].full_name)
        table = estimator.table()
        shares = graph.constant(table.ravel().tolist(), TensorProto.FLOAT, table.shape)
        graph.add("Gather", [shares, place], operator.outputs[1].full_name)
    else:
        values = graph.constant([float(one) for one in estimator.answers], TensorProto.FLOAT, (-1, 1))
        graph.add("Gather", [values, place], operator.outputs[0].full_name)


class _Graph:
    """Nodes in the making, over one input."""

    def __init__(self, scope: Any, container: Any, rows: str) -> None:
        self._scope = scope
        self._container = container
        self._rows = rows

    def place_of(self, rules: _Rules) -> str:
        """The name of `firsts` of the input's rows."""
        from onnx import TensorProto

        place = self.constant([len(rules.rules)], TensorProto.INT64)
        for number in reversed(range(len(rules.rules))):
            holds = self._all([self._condition(rules, one) for one in rules.rules[number].when])
            place = self.add("Where", [holds, self.constant([number], TensorProto.INT64), place])
        return place

    def constant(self, values: list[Any], kind: int, shape: Sequence[int] | None = None) -> str:
        """A tensor, of one dimension when no shape is given."""
        name: str = self._scope.get_unique_variable_name("constant")
        sizes = [len(values)] if shape is None else [len(values) if size < 0 else size for size in shape]
        self._container.add_initializer(name, kind, sizes, values)
        return name

    def add(self, kind: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        """A node; the name of its output."""
        name: str = output or self._scope.get_unique_variable_name(kind.lower())
        node = self._scope.get_unique_operator_name(kind)
        self._container.add_node(kind, inputs, name, name=node, op_version=13, **attributes)
        return name

    def _all(self, conditions: list[str]) -> str:
        holds = conditions[0]
        for condition in conditions[1:]:
            holds = self.add("And", [holds, condition])
        return holds

    def _condition(self, rules: _Rules, condition: Condition) -> str:
        from onnx import TensorProto

        name, operator, number = condition
        column = self.constant([list(rules.names).index(name)], TensorProto.INT64, ())
        values = self.add("Gather", [self._rows, column], axis=1)
        kind = OPERATORS[operator][0]
        if operator == "missing":
            return self.add(kind, [values])
        return self.add(kind, [values, self.constant([float(np.float32(number))], TensorProto.FLOAT)])
