"""The policy: what people decide about a model and seldom change. Every key has a default.

Pure values; `gateway.documents.parse` reads them from YAML with file and line. The stored document is JSON.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from gateway.documents.duration import Seconds
from gateway.documents.hook import Hook
from gateway.documents.rollout import Guards, Step

Percent = Annotated[float, Field(ge=0, le=100)]
Alpha = Annotated[float, Field(gt=0, lt=1)]
FieldHandling = Literal["reject", "clip", "flag"]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RuleCondition(_Part):
    """A header (lower case) or an input field, and the text it must equal."""

    header: str | None = None
    field: str | None = None
    equals: str | float | bool

    @model_validator(mode="after")
    def _names_one_place(self) -> Self:
        if (self.header is None) == (self.field is None):
            raise ValueError("name either a header or a field")
        return self


class Rule(_Part):
    """First match wins, before weights. version: a number, or `challenger` (the first canary; none: skipped)."""

    when: RuleCondition
    version: int | Literal["challenger", "champion"]


class Fallback(_Part):
    """What answers when the chosen version fails or misses its deadline: a version or a fixed value."""

    version: int | Literal["previous", "champion"] | None = None
    value: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _names_one_thing(self) -> Self:
        if (self.version is None) == (self.value is None):
            raise ValueError("give either a version or a value")
        return self


class Inputs(_Part):
    """How the contract is applied at the door; `fields` overrides by feature."""

    missing: FieldHandling = "reject"
    out_of_range: FieldHandling = "flag"
    unseen_category: FieldHandling = "flag"
    fields: dict[str, dict[Literal["missing", "out_of_range", "unseen_category"], FieldHandling]] = {}


class Cache(_Part):
    """Answers kept for the same model, version and input; 0 switches it off."""

    seconds: Annotated[float, Field(ge=0)] = 0.0


class Joining(_Part):
    """How far off an answer may be for rows to share a run: |joined - alone| / (1 + |alone|); 0: not a bit."""

    tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Until(_Part):
    """When a step ends: by counts, and by what labelled pairs show; all that is named must hold."""

    requests: Annotated[int, Field(ge=1)] | None = None
    pairs: Annotated[int, Field(ge=1)] | None = None
    quality: Literal["not_worse", "better"] | None = None


class PlanStep(_Part):
    """One step of a rollout plan: shadow, canary or promote. hold: it lasts at least so long; at_most: its limit."""

    shadow: Annotated[float, Field(gt=0, le=100)] | None = None
    canary: Annotated[float, Field(gt=0, le=100)] | None = None
    promote: Literal["auto", "approve"] | None = None
    until: Until | None = None
    hold: Seconds | None = None
    at_most: Seconds | None = None

    @model_validator(mode="after")
    def _is_one_act(self) -> Self:
        acts = [name for name in ("shadow", "canary", "promote") if getattr(self, name) is not None]
        if len(acts) != 1:
            raise ValueError("a step is exactly one of shadow, canary, promote")
        return self

    @property
    def step(self) -> Step:
        """The step as it is stored with a rollout."""
        return Step(
            shadow=self.shadow,
            canary=self.canary,
            promote=self.promote,
            until_requests=self.until.requests if self.until else None,
            until_pairs=self.until.pairs if self.until else None,
            until_quality=self.until.quality if self.until else None,
            at_most_seconds=self.at_most,
            hold_seconds=self.hold,
        )


class RateGuard(_Part):
    """Roll back when the challenger's rate is above the champion's, with evidence 1/alpha."""

    ratio: Annotated[float, Field(ge=1)] = 2.0
    alpha: Alpha = 0.01


class QualityGuard(_Part):
    """Roll back when labelled pairs show the challenger worse, with evidence 1/alpha.

    margin: by how much less often right still is `not_worse`, as a share of the rows.
    """

    alpha: Alpha = 0.05
    margin: Annotated[float, Field(gt=0, lt=1)] | None = None


class ValueGuard(_Part):
    """Roll back when the canary's answers earn less (or more, where `lower` is better), with evidence 1/alpha."""

    alpha: Alpha = 0.05
    better: Literal["higher", "lower"] = "higher"


AlertKind = Literal["data_quality", "data_drift", "prediction_drift", "label_shift", "concept_drift", "performance"]


class DisagreementGuard(_Part):
    """Hold and ask when more of the shadow's rows differ from the champion's than `at_most`, with evidence 1/alpha."""

    at_most: Annotated[float, Field(gt=0, lt=1)]
    alpha: Alpha = 0.01


class GuardSet(_Part):
    """What rolls a challenger back, or holds it. alerts: kinds of the monitor's alerts that roll it back."""

    errors: RateGuard = RateGuard()
    slow: RateGuard = RateGuard()
    quality: QualityGuard = QualityGuard()
    value: ValueGuard = ValueGuard()
    alerts: tuple[AlertKind, ...] = ("data_quality", "performance")
    disagreement: DisagreementGuard | None = None

    @property
    def guards(self) -> Guards:
        """The guards as they are stored with a rollout."""
        return Guards(
            errors_ratio=self.errors.ratio,
            errors_alpha=self.errors.alpha,
            slow_ratio=self.slow.ratio,
            slow_alpha=self.slow.alpha,
            quality_alpha=self.quality.alpha,
            quality_margin=self.quality.margin,
            value_alpha=self.value.alpha,
            value_better=self.value.better,
            alerts=self.alerts,
            disagreement_at_most=self.disagreement.at_most if self.disagreement else None,
            disagreement_alpha=self.disagreement.alpha if self.disagreement else 0.01,
        )


class ExperimentPolicy(_Part):
    """What an experiment does that does not say otherwise."""

    winner: Literal["report", "promote"] = "report"
    alpha: Annotated[float, Field(gt=0, le=0.5)] = 0.05
    minimum_units: Annotated[int, Field(ge=20)] = 100


class AfterPromotion(_Part):
    """Guards go on for so many requests; a fall restores `previous`."""

    requests: Annotated[int, Field(ge=0)] = 1000


def _plan(*steps: dict[str, Any]) -> tuple[PlanStep, ...]:
    return tuple(PlanStep.model_validate(step) for step in steps)


class RolloutPolicy(_Part):
    """When and how versions are rolled out."""

    start: Literal["auto", "manual"] = "manual"
    steps: tuple[PlanStep, ...] = _plan(
        {"shadow": 100, "until": {"pairs": 500}, "at_most": "1h"},
        {"canary": 5},
        {"canary": 25},
        {"canary": 50},
        {"promote": "auto"},
    )
    expedited: tuple[PlanStep, ...] = _plan(
        {"shadow": 100, "until": {"pairs": 50}},
        {"canary": 50, "until": {"requests": 50}},
        {"promote": "auto"},
    )
    blue_green: tuple[PlanStep, ...] = _plan({"promote": "auto"})
    guards: GuardSet = GuardSet()
    after_promotion: AfterPromotion = AfterPromotion()
    experiment: ExperimentPolicy = ExperimentPolicy()
    without_evidence: Literal["hold", "roll_back"] = "hold"
    previous_kept: Seconds = 86400.0
    rollback_window: Seconds = 86400.0
    dry_run: bool = False
    hooks: tuple[Hook, ...] = ()

    @model_validator(mode="after")
    def _ends_with_promote(self) -> Self:
        for name in ("steps", "expedited", "blue_green"):
            steps = getattr(self, name)
            if not steps or steps[-1].promote is None or any(step.promote for step in steps[:-1]):
                raise ValueError(f"{name}: the last step, and only the last, must be promote")
        return self

    @model_validator(mode="after")
    def _can_show_the_quality_it_asks_for(self) -> Self:
        for name, steps in (("steps", self.steps), ("expedited", self.expedited)):
            has_pairs = False
            for place, step in enumerate(steps):
                has_pairs = has_pairs or step.shadow is not None
                wanted = step.until.quality if step.until else None
                if wanted and not has_pairs:
                    raise ValueError(f"{name}[{place}].until.quality: put a shadow step before it, pairs show quality")
                if wanted == "not_worse" and self.guards.quality.margin is None:
                    raise ValueError(f"{name}[{place}].until.quality: set guards.quality.margin for not_worse")
        return self


class RiverDetector(_Part):
    """A class of river.drift by its own name, on errors, a feature or the score."""

    river: str
    on: str = "errors"
    advisory: bool = True
    parameters: dict[str, float] = {}


class OnlineModel(_Part):
    """A class of river.tree, river.forest or river.linear_model by its name, such as `tree.HoeffdingTreeClassifier`.

    It learns from the labels beside the champion and answers nobody; it ends when its state outgrows most_kilobytes.
    """

    river: str
    parameters: dict[str, bool | int | float | str] = {}
    most_kilobytes: Annotated[int, Field(ge=1, le=16384)] = 1024


class Webhook(_Part):
    """Where alerts are posted."""

    webhook: str


class MonitoringPolicy(_Part):
    """What is watched and how many false alarms are accepted."""

    false_alarm_every_events: Annotated[int, Field(ge=1000)] = 100_000
    detectors: tuple[Literal["panel"] | RiverDetector, ...] = ("panel", RiverDetector(river="ADWIN"))
    error_tolerance: Annotated[float, Field(ge=0, lt=1)] = 0.01
    cooldown_labels: Annotated[int, Field(ge=0)] = 250
    clear_after_events: Annotated[int, Field(ge=0)] = 2000
    slices: tuple[str, ...] = ()
    online_model: OnlineModel | None = None
    alerts: tuple[Webhook, ...] = ()


class Labels(_Part):
    """How long a prediction waits for its label."""

    wait: Seconds = 7 * 86400.0


class Performance(_Part):
    """Retrain when a live metric is below this."""

    metric: Literal["accuracy", "f1", "mae", "rmse"] = "accuracy"
    below: float


class Triggers(_Part):
    """Why to retrain."""

    error_drift: bool = True
    data_drift: Literal["off", "shadow_only"] = "off"
    performance: Performance | None = None
    schedule: str | None = None
    labels: Annotated[int, Field(ge=1)] | None = None


DataCheck = Literal[
    "few_rows", "missing", "out_of_range", "unseen_category", "constant", "duplicates", "imbalance", "leakage"
]


class Window(_Part):
    """Which labelled rows to train on: exactly one of rows, days, sample."""

    rows: Annotated[int, Field(ge=50)] | None = None
    days: Annotated[float, Field(gt=0)] | None = None
    sample: Annotated[int, Field(ge=50)] | None = None

    @model_validator(mode="after")
    def _is_one_window(self) -> Self:
        if sum(value is not None for value in (self.rows, self.days, self.sample)) != 1:
            raise ValueError("a window is since_change, dynamic, or exactly one of rows, days, sample")
        return self


class Gate(_Part):
    """What a candidate must meet before it is published.

    golden_fall: how far its mean loss on the golden rows may lie above the champion's; beyond, a person decides.
    fairness_gap: how far the mean losses of two groups of the recipe's `fairness` may lie apart; None: only shown.
    """

    not_worse_than_champion: Annotated[float, Field(ge=0, lt=1)] = 0.01
    beats: tuple[Literal["majority", "random", "simple", "last_label", "human"], ...] = ("majority",)
    parity: Annotated[float, Field(gt=0)] = 1e-5
    latency_ratio: Annotated[float, Field(gt=0)] = 3.0
    size_mb: Annotated[float, Field(gt=0)] = 256.0
    slices_not_worse: Annotated[float, Field(gt=0)] = 0.05
    fairness_gap: Annotated[float, Field(gt=0, lt=1)] | None = None
    golden_fall: Annotated[float, Field(gt=0, lt=1)] = 0.1


class JobGuards(_Part):
    """What keeps jobs from storming."""

    cooldown_labels: Annotated[int, Field(ge=0)] = 250
    jobs_a_day: Annotated[int, Field(ge=1)] = 200
    back_off_after_rejections: Annotated[int, Field(ge=1)] = 2
    settle_labels: Annotated[int, Field(ge=0)] = 250
    seconds: Annotated[float, Field(gt=0)] = 600.0
    memory_mb: Annotated[int, Field(ge=256)] = 4096


class Mlflow(_Part):
    """Where jobs are told to: the address of an MLflow tracking server, and the experiment there."""

    uri: str
    experiment: str = "gateway"


class RetrainingPolicy(_Part):
    """How a model is trained again.

    follow_ups: labels after the job of an error alert at which it is trained once more, ascending. refuse_data: what
    the rows must not show, else the job fails; the rest is only written down.
    """

    recipe: str | None = None
    triggers: Triggers = Triggers()
    follow_ups: tuple[Annotated[int, Field(ge=1)], ...] = (500, 1500, 3500, 7500)
    windows: tuple[Literal["since_change", "dynamic"] | Window, ...] = (
        "since_change",
        Window(rows=1000),
        Window(rows=4000),
    )
    refuse_data: tuple[DataCheck, ...] = ()
    gate: Gate = Gate()
    guards: JobGuards = JobGuards()
    mlflow: Mlflow | None = None

    @model_validator(mode="after")
    def _follows_up_later_and_later(self) -> Self:
        if list(self.follow_ups) != sorted(set(self.follow_ups)):
            raise ValueError("follow_ups: numbers of labels, each larger than the one before")
        return self


class JournalPolicy(_Part):
    """How predictions of this model are written down."""

    durability: Literal["process", "strict"] = "process"
    on_failure: Literal["serve", "refuse"] = "serve"
    keep: Seconds = 30 * 86400.0
    max_record_bytes: Annotated[int, Field(ge=1024)] = 65536
    redact: tuple[str, ...] = ()


class Policy(_Part):
    """Everything people decided about one model."""

    model: str
    first_version: Literal["serve", "hold"] = "serve"
    sticky: Literal["key", "none"] = "key"
    rules: tuple[Rule, ...] = ()
    fallback: tuple[Fallback, ...] = ()
    deadline_ms: Annotated[float, Field(gt=0)] = 1000.0
    inputs: Inputs = Inputs()
    concurrency: Annotated[int, Field(ge=0)] = 0
    cache: Cache = Cache()
    joining: Joining = Joining()
    rollout: RolloutPolicy = RolloutPolicy()
    monitoring: MonitoringPolicy = MonitoringPolicy()
    labels: Labels = Labels()
    retraining: RetrainingPolicy = RetrainingPolicy()
    journal: JournalPolicy = JournalPolicy()

    def encode(self) -> bytes:
        """The document's body."""
        return self.model_dump_json().encode()


def read_policy(body: bytes) -> Policy:
    """The policy in a document's body. Raises pydantic's ValidationError."""
    return Policy.model_validate_json(body)
