"""The experiment document: several versions answering side by side so that people learn which one is best.

Pure values. Written by the experiment loop and by operators (start, stop), always by compare-and-swap. The arms are
the champion (the control) and up to eight challengers, each a canary of the route with a weight of its own.

    running -> ended      (its time is over, its units are there, a person stopped it or moved the weights)
    an arm that fails a guard is taken out (`out`), the others go on
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from msgspec import Struct

from gateway.documents.rollout import Guards
from gateway.names import ModelName

MOST_CHALLENGERS = 8
LEAST_WEIGHT = 0.01


class Phase(StrEnum):
    """Where an experiment stands."""

    RUNNING = "running"
    ENDED = "ended"


class Metric(StrEnum):
    """What is compared: the business value of feedback, the share right of labelled rows, or the share of failures."""

    VALUE = "value"
    LABEL = "label"
    ERRORS = "errors"


class Arm(Struct, frozen=True, kw_only=True):
    """One challenger. weight: percent. ranges: the buckets that it got, [first, behind the last).

    out: why it was taken out; empty: it takes part.
    """

    version: int
    weight: float
    ranges: tuple[tuple[int, int], ...] = ()
    out: str = ""


class Terms(Struct, frozen=True, kw_only=True):
    """What was agreed before the first answer.

    better: "higher" | "lower". alpha: chance that any interval ever misses. margin: differences within it mean nothing.
    minimum_units: of each arm, before anything is said. until_units: of each arm, at_most_seconds, until_decided (a
    verdict): what ends it. winner: "report" | "promote". keep: the canaries stay in the route at the end.
    """

    metric: Metric
    better: str
    alpha: float = 0.05
    margin: float | None = None
    minimum_units: int = 100
    until_units: int | None = None
    at_most_seconds: float | None = None
    until_decided: bool = False
    winner: str = "report"
    keep: bool = False


class Experiment(Struct, frozen=True, kw_only=True):
    """One experiment.

    number: 1 for the model's first, then one more each. offset: traffic offset (hex) from which its figures are
    folded. first: revision of the route with which it began, answers of older ones do not count. written: the revision
    that the loop wrote last. pending: revision of the route that the present state is being written over, 0 once it is
    written: a loop that died in between goes on there. promoting: the winner whose rollout has yet to be started.
    verdict: winner | no_difference | undecided; winner: its version. report: the newest figures.
    """

    model: str
    champion: int
    arms: tuple[Arm, ...]
    terms: Terms
    phase: Phase
    reason: str
    salt: str
    number: int = 1
    guards: Guards = Guards()
    offset: str = ""
    started: float = 0.0
    since: float = 0.0
    first: int = 0
    written: int = 0
    pending: int = 0
    actor: str = "gateway"
    verdict: str = "undecided"
    winner: int = 0
    promoting: int = 0
    report: dict[str, Any] = {}

    @property
    def is_live(self) -> bool:
        """True while it may still move the route or start a rollout."""
        return self.phase is Phase.RUNNING or self.pending > 0 or self.promoting > 0

    @property
    def taking_part(self) -> tuple[Arm, ...]:
        """The challengers that were not taken out."""
        return tuple(arm for arm in self.arms if not arm.out)


def experiment_name(model: ModelName) -> str:
    """The experiment under way or the last one: the name of its document."""
    return f"experiments/{model}"
