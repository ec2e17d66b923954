"""Does the electricity price of New South Wales rise above its average of the last day? One row is half an hour.

The stream drifts all the time: seasons, a market that opened, demand. Models here age within weeks of the stream, so
the recipe is made for being trained often: quick to fit, a short holdout, several windows to choose from.
"""

from __future__ import annotations

from typing import Any

from gateway.retraining.recipe import Feature, Recipe

ROWS_A_DAY = 48


def extra_trees() -> Any:
    """Random trees; boosting was one to three points worse on this stream, plain forests one. A hundred, because the
    luck of forty is half a point."""
    from sklearn.ensemble import ExtraTreesClassifier

    return ExtraTreesClassifier(n_estimators=100, min_samples_leaf=5, n_jobs=1)


def scaled(name: str) -> Feature:
    """A column that its publisher scaled to 0..1."""
    return Feature(name=name, low=0.0, high=1.0)


recipe = Recipe(
    model="electricity",
    features=[
        scaled("nswprice"),
        scaled("nswdemand"),
        scaled("vicprice"),
        scaled("vicdemand"),
        scaled("transfer"),
        scaled("period"),  # half hour of the day, 0 at midnight, 1 half an hour before the next
    ],
    label="class",
    classes=[0, 1],
    candidates={"extra_trees": extra_trees},
    metric="accuracy",
    label_delay_rows=ROWS_A_DAY,  # the average of the day is known a day later
    holdout_rows=150,  # newest rows are also the most telling to fit on: every row held out costs accuracy
    validation_rows=500,
    least_rows=300,
    history="data/electricity.csv.gz",
    history_rows=2_000,  # what the first version learned from, older than all traffic
    seed=7,
    card={
        "purpose": "Tells half-hours with a price above the last day's average from those below.",
        "data": "Electricity (Elec2): 45,312 half-hours of 1996 to 1998, see models/data/README.md",
        "limits": "Ages within weeks of the stream. Not for trading: the label looks at the price itself.",
        "objective": "Tell the half-hours that are dearer than the average of the last day as they come.",
        "business_metric": "accuracy: each half-hour told wrongly shifts load into a dear one",
        "constraints": ["one row in under a millisecond", "labels come a day late", "public data only"],
        "risks": ["prices may be moved on purpose: watch for poisoned labels", "a market reform ends every pattern"],
        "exit_criteria": "a week below the last known label's accuracy: answer with the last label instead",
    },
)
