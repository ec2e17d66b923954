"""The rollout document: one challenger on its way to champion, or the last one that was.

Pure values. Written by the rollout controller and by operators (pause, resume, promote, roll back), always by
compare-and-swap. The plan's steps are copied in when the rollout starts: a later policy edit moves no rollout.

    waiting -> shadow -> canary -> promoted           (held: at a step's deadline, evidence missing)
       any live phase -> paused -> back by `resume`   (approving: a person has to say yes)
       any live phase -> rolled_back
       promoted, while `guarding` -> rolled_back      (`previous` restored)
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from msgspec import Struct


class Phase(StrEnum):
    """Where a rollout stands."""

    WAITING = "waiting"
    SHADOW = "shadow"
    CANARY = "canary"
    HELD = "held"
    PAUSED = "paused"
    APPROVING = "approving"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"


ENDED = frozenset({Phase.PROMOTED, Phase.ROLLED_BACK})


class Step(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step: exactly one of shadow (share, percent), canary (weight, percent), promote ("auto" or "approve").

    hold_seconds: the step lasts at least so long, whatever the evidence. until_requests: canary answers; until_pairs:
    shadow answers joined to the champion's; until_quality: what labelled pairs must show, "not_worse" or "better". None
    of them: the step ends when the promotion evidence passes. at_most_seconds: then the policy's `without_evidence`
    applies; a step that waits for a person is rolled back.
    """

    shadow: float | None = None
    canary: float | None = None
    promote: str | None = None
    until_requests: int | None = None
    until_pairs: int | None = None
    at_most_seconds: float | None = None
    until_quality: str | None = None
    hold_seconds: float | None = None


class Guards(Struct, frozen=True, kw_only=True):
    """The guards as the policy had them when the rollout started.

    quality_margin: share of labelled rows by which the challenger may be less often right; None: nobody asked.
    disagreement_at_most: share of rows in which a shadow may differ from the champion; None: any.
    """

    errors_ratio: float = 2.0
    errors_alpha: float = 0.01
    slow_ratio: float = 2.0
    slow_alpha: float = 0.01
    quality_alpha: float = 0.05
    quality_margin: float | None = None
    value_alpha: float = 0.05
    value_better: str = "higher"
    alerts: tuple[str, ...] = ("data_quality", "performance")  # kinds of alerts on the version on trial that fail it
    disagreement_at_most: float | None = None
    disagreement_alpha: float = 0.01


class Rollout(Struct, frozen=True, kw_only=True):
    """One rollout.

    offset: traffic offset (hex) from which its evidence is folded. step_offset: where the present step began.
    written: revision of the route that the controller wrote last; another revision with other weights means that a
    person moved it. number: 1 for the model's first rollout, then one more each. pending: revision of the route that
    the present phase is being written over, 0 once it is written: a controller that died in between goes on there.
    since: when the phase was decided; step_since: when every live serving process had acknowledged the step's route.
    """

    model: str
    version: int
    champion: int
    plan: str  # "steps" | "expedited" | "blue_green"
    steps: tuple[Step, ...]
    phase: Phase
    reason: str
    number: int = 1
    step: int = -1
    weight: float = 0.0
    since: float = 0.0
    started: float = 0.0
    step_since: float = 0.0
    offset: str = ""
    step_offset: str = ""
    control_offset: str = ""  # of the control stream, from which alerts count; empty: by the time `started`
    written: int = 0
    guards: Guards = Guards()
    after_promotion_requests: int = 1000
    without_evidence: str = "hold"
    guarding: bool = False
    answers: str = ""  # the alert that this version answers
    actor: str = "gateway"
    verdict: str = ""
    evidence: dict[str, Any] = {}
    resume_to: Phase | None = None
    pending: int = 0
    slices: tuple[str, ...] = ()  # features whose slices its evidence counts apart
    refused: bool = False  # held because a hook said no: only a person goes on
    waits_for: str = ""  # the hook that the next step waits for, and what it said
    dry_run: bool = False  # it writes down what it would do, and never moves the route
    would: str = ""  # the last act that a dry run would have done
    counted: tuple[int, int] = (0, 0)  # pairs and canary answers before the present step of a dry run

    @property
    def is_live(self) -> bool:
        """True while the rollout may still move the route."""
        return self.phase not in ENDED or self.guarding


class Freeze(Struct, frozen=True, kw_only=True):
    """No automatic rollout, roll-back or retraining for this model; serving, monitoring and manual moves go on."""

    frozen: bool
    actor: str = ""
    reason: str = ""
    since: float = 0.0
