"""What a fold rests on besides the journal, written down in the checkpoint: policies and the sampling rate.

Each term says what was in force from which offset on. It is committed together with the fold it was used for, so a
replay of the same stretch uses the same terms, and a crash leaves none behind that was never used. The terms of one
subject (a model's policy, or the rate) follow one another; the first of them counts from the start of the journal.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

from msgspec import Struct

from gateway.documents.policy import Policy, read_policy
from gateway.journal.journal import START, Offset
from gateway.journal.merge import decode_offset
from gateway.monitor.sampling import EVERYTHING

KEPT: Final = 20
"""So many newest terms of each subject are kept."""

_OF_THE_FOLD: Final[Any] = {
    "model": True,
    "monitoring": True,
    "labels": True,
    "retraining": {"triggers": {"performance"}},
    "rollout": {"after_promotion": True},
}


class Term(Struct, frozen=True, array_like=True):
    """From `offset` on: the policy of `model` (JSON, what a fold uses of it), or the rate when the model is ""."""

    offset: bytes
    model: str = ""
    policy: str = ""
    rate: float = EVERYTHING


def policy_text(policy: Policy) -> str:
    """The parts of a policy that a fold uses, as they are written down; defaults left out."""
    return policy.model_dump_json(include=_OF_THE_FOLD, exclude_defaults=True)


@lru_cache(maxsize=1000)
def read_text(text: str) -> Policy:
    """The policy of a term's text."""
    return read_policy(text.encode())


def policies_of(terms: Sequence[Term]) -> dict[str, Policy]:
    """The newest policy of each model."""
    newest = {term.model: term.policy for term in terms if term.model}
    return {model: read_text(text) for model, text in newest.items()}


def rate_of(terms: Sequence[Term]) -> float:
    """The newest rate; everything when none was ever set."""
    return next((term.rate for term in reversed(terms) if not term.model), EVERYTHING)


def noted(
    terms: tuple[Term, ...], offset: Offset, policies: Mapping[str, Policy], rate: float, known: Container[str] = ()
) -> tuple[Term, ...]:
    """The terms with what is in force from `offset` on; the same object when nothing changed.

    A model's first policy counts from the start of the journal, unless the model was `known` before without one.
    """
    newest = {term.model: term for term in terms}
    added = []
    for model, policy in policies.items():
        text, last = policy_text(policy), newest.get(model)
        if last is None or last.policy != text:
            added.append(Term(bytes(offset if last is not None or model in known else START), model, text))
    if rate != rate_of(terms):
        added.append(Term(bytes(offset), rate=rate))
    return _newest((*terms, *added)) if added else terms


def _newest(terms: Sequence[Term]) -> tuple[Term, ...]:
    kept: list[Term] = []
    seen: dict[str, int] = {}
    for term in reversed(terms):
        seen[term.model] = seen.get(term.model, 0) + 1
        if seen[term.model] <= KEPT:
            kept.append(term)
    return tuple(reversed(kept))


def is_past(offset: Offset, stop: Offset) -> bool:
    """True when something before `offset` is not before `stop`."""
    upto = decode_offset(stop)
    return any(sequence > upto.get(spool, 0) for spool, sequence in decode_offset(offset).items())


class Schedule:
    """The terms along a journal: those in force, and where the next one begins."""

    def __init__(self, terms: Iterable[Term]) -> None:
        self._coming = list(terms)
        self._passed: list[Term] = []

    @property
    def in_force(self) -> Sequence[Term]:
        """The terms passed so far."""
        return self._passed

    @property
    def next_offset(self) -> Offset | None:
        """Where the next term begins; None when all are in force."""
        return Offset(self._coming[0].offset) if self._coming else None

    def pass_next(self) -> None:
        """The next term is in force from here on."""
        self._passed.append(self._coming.pop(0))
