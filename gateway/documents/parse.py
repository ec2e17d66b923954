"""Texts that people write, read into values: a policy file in YAML, and JSON bodies of the admin API.

Pure: text in, value out. Every wrong place is named with file, line, column and key (or with a JSON pointer), and with
what is allowed there. Duplicate keys are refused: of two values a reader can not know which one counts.
"""

from __future__ import annotations

import difflib
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar, Union, get_args, get_origin

from cronsim import CronSim, CronSimError
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from gateway.documents.plan import rollout_faults
from gateway.documents.policy import Policy
from gateway.errors import Fault, InvalidConfig
from gateway.names import model_name

M = TypeVar("M", bound=BaseModel)
Path = tuple[str | int, ...]

_BRACKETS = re.compile(r"[\[\]{}]")
_ANY_TIME = datetime(2000, 1, 1, tzinfo=UTC)
MAX_CHARACTERS = 100_000
"""A policy has a few thousand; the library reads about so many in a second or two."""
MAX_DEPTH = 100
"""Brackets open at a time; the library takes seconds for thousands."""
MAX_NODES = 20_000
"""A few lines of YAML aliases can stand for billions of values; reading stops here."""


def parse_policy(text: str, source: str, model: str = "") -> Policy:
    """The policy in a YAML text. Raises InvalidConfig.

    source: how the text is called in errors (a file name). model: taken where the text names none.
    """
    tree = _load(text, source)
    places = _Places(source, tree)
    content = _plain(tree, source)
    if model:
        content.setdefault("model", model)
    policy = _validate(Policy, content, places.fault, source)
    _check_words(policy, places.fault, source)
    return policy


def validate_policy(content: object) -> Policy:
    """The policy in a decoded JSON body. Raises InvalidConfig with JSON pointers."""
    policy = _validate(Policy, content, _pointer, "the policy")
    _check_words(policy, _pointer, "the policy")
    return policy


def validate(kind: type[M], content: object, subject: str) -> M:
    """A decoded JSON body as a value of `kind`. subject: how it is called in errors. Raises InvalidConfig."""
    return _validate(kind, content, _pointer, subject)


def _load(text: str, source: str) -> CommentedMap:
    if len(text) > MAX_CHARACTERS:
        raise InvalidConfig(f"{source}: longer than {MAX_CHARACTERS} characters", [Fault(source, "is too long")])
    if _depth(text) > MAX_DEPTH:
        detail = f"more than {MAX_DEPTH} brackets are open at a time"
        raise InvalidConfig(f"{source}: {detail}", [Fault(source, detail)])
    try:
        tree = YAML(typ="rt").load(text)
        tree = CommentedMap() if tree is None else tree
    except DuplicateKeyError as error:
        raise _marked(
            error, source, str(error.problem).split(" with value")[0].replace("found duplicate key", "duplicate key")
        ) from None
    except MarkedYAMLError as error:
        raise _marked(error, source, f"not YAML: {error.problem or error.context}") from None
    except YAMLError as error:
        raise InvalidConfig(f"{source}: not YAML: {error}", [Fault(source, "is not YAML")]) from None
    except Exception as error:  # noqa: BLE001 - odd texts (`!!int`, deep nesting) make the library itself fail
        detail = f"can not be read as YAML ({type(error).__name__})"
        raise InvalidConfig(f"{source}: {detail}", [Fault(source, detail)]) from None
    if not isinstance(tree, CommentedMap):
        raise InvalidConfig(f"{source}:1:1: must be a mapping of keys", [Fault(f"{source}:1:1", "must be a mapping")])
    return tree


def _depth(text: str) -> int:
    """How many brackets are open at most, quoted ones too."""
    deepest = now = 0
    for bracket in _BRACKETS.findall(text):
        now = now + 1 if bracket in "[{" else max(0, now - 1)
        deepest = max(deepest, now)
    return deepest


def _marked(error: MarkedYAMLError, source: str, detail: str) -> InvalidConfig:
    mark = error.problem_mark or error.context_mark
    place = f"{source}:{mark.line + 1}:{mark.column + 1}" if mark else source
    return InvalidConfig(f"{place}: {detail}", [Fault(place, detail)])


def _plain(tree: Any, source: str) -> Any:
    """The tree as plain dicts, lists and scalars. Raises InvalidConfig when aliases make it huge or endless."""
    left = MAX_NODES

    def convert(value: Any) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise InvalidConfig(f"{source}: more than {MAX_NODES} values", [Fault(source, "has too many values")])
        if isinstance(value, Mapping):
            return {str(key): convert(child) for key, child in value.items()}
        if isinstance(value, (list, tuple)):
            return [convert(child) for child in value]
        for kind in (bool, int, float, str):
            if isinstance(value, kind):
                return kind(value)
        return None if value is None else str(value)

    try:
        return convert(tree)
    except RecursionError:
        raise InvalidConfig(f"{source}: an alias holds itself", [Fault(source, "an alias holds itself")]) from None


def _validate(kind: type[M], content: object, fault: Any, subject: str) -> M:
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        wrong = dict.fromkeys(_explain(kind, content, entry) for entry in error.errors(include_url=False))
    # Of the members of a union each complains; the one that got deepest was meant.
    deepest = [one for one in wrong if not any(_is_above(one[0], other[0]) for other in wrong)]
    unique = [fault(path, detail) for path, detail in deepest]
    raise InvalidConfig("; ".join(_sentence(fault, subject) for fault in unique[:5]), unique)


def _is_above(path: Path, other: Path) -> bool:
    return len(path) < len(other) and other[: len(path)] == path and path != ()


def _sentence(fault: Fault, subject: str) -> str:
    if fault.pointer.startswith(subject):
        return f"{fault.pointer}: {fault.detail}"
    return f"{subject}: {fault.pointer}: {fault.detail}" if fault.pointer else f"{subject}: {fault.detail}"


def _pointer(path: Path, detail: str) -> Fault:
    return Fault("".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path), detail)


class _Places:
    """Where each key of a YAML tree stands."""

    def __init__(self, source: str, tree: CommentedMap) -> None:
        self._source = source
        self._tree = tree

    def fault(self, path: Path, detail: str) -> Fault:
        """The fault with `file:line:column: key` as its pointer."""
        line, column = self._find(path)
        key = ".".join(map(str, path))
        place = f"{self._source}:{line + 1}:{column + 1}"
        return Fault(f"{place}: {key}" if key else place, detail)

    def _find(self, path: Path) -> tuple[int, int]:
        node: Any = self._tree
        place = (0, 0)
        for part in path:
            if isinstance(node, CommentedMap) and part in node:
                place = node.lc.key(part)
            elif isinstance(node, CommentedSeq) and isinstance(part, int) and part < len(node):
                place = node.lc.item(part)
            else:
                break
            node = node[part]
        return place


def _explain(kind: type[BaseModel], content: object, entry: ErrorDetails) -> tuple[Path, str]:
    """The path of the error within the content, and a sentence that says what is allowed there."""
    path = tuple(_existing(content, entry["loc"], entry["type"]))
    if entry["type"] == "extra_forbidden":
        return path, _unknown(str(path[-1]), _allowed(kind, path[:-1]))
    if entry["type"] == "missing":
        return path, "is required"
    text = entry["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
    return path, text[:1].lower() + text[1:]


def _existing(content: Any, loc: tuple[str | int, ...], kind: str) -> Iterator[str | int]:
    """The parts of an error's place that are in the content: pydantic adds the names of union members."""
    for number, part in enumerate(loc):
        last = number == len(loc) - 1
        if isinstance(content, Mapping) and (part in content or (last and kind == "missing")):
            content = content.get(part)
            yield part
        elif isinstance(content, list) and isinstance(part, int) and part < len(content):
            content = content[part]
            yield part


def _unknown(key: str, allowed: Sequence[str]) -> str:
    near = difflib.get_close_matches(key, allowed, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return f"there is no such key; allowed: {', '.join(allowed)}{hint}" if allowed else "there is no such key"


def _allowed(kind: type[BaseModel], path: Path) -> list[str]:
    """The keys allowed at a place, over all models that may stand there."""
    kinds: list[Any] = [kind]
    for part in path:
        kinds = [inner for outer in kinds for inner in _inside(outer, part)]
    return sorted({name for model in kinds for name in model.model_fields})


def _inside(kind: type[BaseModel], part: str | int) -> Iterator[type[BaseModel]]:
    field = kind.model_fields.get(str(part))
    if isinstance(part, int):
        yield kind  # an item of a list: its model was found with the list
    elif field is not None:
        yield from _models(field.annotation)


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    elif get_origin(annotation) in (Union, types.UnionType, tuple, list, dict):
        for argument in get_args(annotation):
            yield from _models(argument)


def _check_words(policy: Policy, fault: Any, subject: str) -> None:
    """What the schema can not see: the model's name, the schedule, and plans that can never end."""
    faults: list[Fault] = []
    try:
        model_name(policy.model)
    except ValueError as error:
        faults.append(fault(("model",), str(error)))
    schedule = policy.retraining.triggers.schedule
    if schedule is not None:
        try:
            CronSim(schedule, _ANY_TIME)
        except CronSimError as error:
            faults.append(
                fault(("retraining", "triggers", "schedule"), f"must be five cron fields such as '0 3 * * *' ({error})")
            )
    faults += [fault(("rollout", *place), detail) for place, detail in rollout_faults(policy.rollout)]
    if faults:
        raise InvalidConfig("; ".join(_sentence(found, subject) for found in faults), faults)
