"""What the evidence against one version amounts to, and what it calls for: one table, read from the top. Pure.

| name | evidence | response |
|---|---|---|
| bad_release | errors rose, or the limit was crossed, on probation, for no other version on these rows | roll_back |
| data_quality | the same with values missing in earnest, while no feature moved otherwise | alert_owner |
| concept_and_data_drift | errors rose, features moved or left their range | retrain_all_windows |
| concept_drift | errors rose, features are quiet | retrain_since_change |
| below_limit | the policy's limit was crossed, errors are as proven | retrain_all_windows |
| label_shift | the shares of labels moved, errors are quiet (or not known, with features quiet) | recalibrate |
| benign_data_drift | features or predictions moved, labels came, errors are quiet | propose_reference |
| suspected | features or predictions moved, labels are not there yet | ask_for_labels |
| data_quality | missing, range or unseen categories only | alert_owner |

A version on trial is not retrained: where nothing of it stands against the champion too, the response is roll_back
(the rollout's guards decide for which kinds), else watch: the stream moved, not the version.

Missing values come before concept drift because a model that learns from holes learns the holes; values out of range
do not: they are data that the model never saw, and errors say that it matters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from msgspec import Struct


class Evidence(Struct, frozen=True, kw_only=True):
    """What stands against one version in one role.

    inputs, prediction, quality, label_share, below_limit: latched alerts of these groups; missing: of quality, that
    values are missing in earnest. errors: True latched, False quiet with enough labels since the change, None not
    known. on_probation: champion since few labels, or a challenger. only_this: other versions on the same rows are
    fine; None when none can be compared. is_champion. shared: the champion shows the same.
    """

    inputs: bool = False
    prediction: bool = False
    quality: bool = False
    missing: bool = False
    label_share: bool = False
    errors: bool | None = None
    below_limit: bool = False
    on_probation: bool = False
    only_this: bool | None = None
    is_champion: bool = True
    shared: bool = False

    @property
    def moved(self) -> bool:
        """Features or predictions moved."""
        return self.inputs or self.prediction

    @property
    def failing(self) -> bool:
        """It answers worse than it should."""
        return self.errors is True or self.below_limit


class Judgement(NamedTuple):
    """A name and a response; both empty when nothing stands against the version."""

    verdict: str = ""
    response: str = ""


class _Rule(NamedTuple):
    verdict: str
    response: str
    holds: Callable[[Evidence], bool]


TABLE = (
    _Rule("bad_release", "roll_back", lambda e: e.failing and e.on_probation and e.only_this is True),
    _Rule("data_quality", "alert_owner", lambda e: e.failing and e.missing and not e.inputs),
    _Rule("concept_and_data_drift", "retrain_all_windows", lambda e: e.errors is True and (e.inputs or e.quality)),
    _Rule("concept_drift", "retrain_since_change", lambda e: e.errors is True),
    _Rule("below_limit", "retrain_all_windows", lambda e: e.below_limit),
    _Rule("label_shift", "recalibrate", lambda e: e.label_share and (e.errors is False or not e.moved)),
    _Rule("benign_data_drift", "propose_reference", lambda e: e.moved and e.errors is False),
    _Rule("suspected", "ask_for_labels", lambda e: e.moved),
    _Rule("data_quality", "alert_owner", lambda e: e.quality),
)

RESPONSES = {
    "roll_back": "take the version back",
    "alert_owner": "repair the data; nothing is trained on it",
    "retrain_all_windows": "train again, on all windows of the policy",
    "retrain_since_change": "train again on the rows since the change",
    "recalibrate": "adjust threshold or prior, and watch",
    "propose_reference": "record it; the next version brings a new reference, no training for it",
    "ask_for_labels": "get labels of these rows soon; a candidate may be trained for the shadow",
    "watch": "the champion shows the same: the stream moved, not the version on trial",
}
"""Every response, in words."""


def judge(evidence: Evidence) -> Judgement:
    """The first row of the table that holds."""
    rule = next((one for one in TABLE if one.holds(evidence)), None)
    if rule is None:
        return Judgement()
    if evidence.is_champion:
        return Judgement(rule.verdict, rule.response)
    return Judgement(rule.verdict, "watch" if evidence.shared else "roll_back")
