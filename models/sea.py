"""Do two numbers add up to at most a threshold? It jumps three times, and a tenth of the labels are wrong.

The SEA concepts: the features stay uniform all the time, so a monitor of features has nothing to tell, and only labels
show that the rule changed. The third feature has no influence.
"""

from __future__ import annotations

from typing import Any

from gateway.retraining.recipe import Feature, Recipe


def boosting() -> Any:
    """Few, small trees: the rule is one straight line."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(max_iter=60, max_leaf_nodes=8, min_samples_leaf=30)


def line() -> Any:
    """A line through scaled features."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression())


def ten(name: str) -> Feature:
    """A number between 0 and 10."""
    return Feature(name=name, low=0.0, high=10.0)


recipe = Recipe(
    model="sea",
    features=[ten("f1"), ten("f2"), ten("f3")],
    label="class",
    classes=[0, 1],
    candidates={"boosting": boosting, "line": line},
    metric="accuracy",
    label_delay_rows=100,
    holdout_rows=200,
    validation_rows=300,
    least_rows=200,
    seed=3,
    history="data/sea.csv.gz",
    history_rows=2_000,
    card={
        "purpose": "Tells points whose first two numbers add up to at most a threshold.",
        "data": "SEA concepts, 50,000 points, see models/data/README.md",
        "limits": "Made data: the threshold jumps, and a tenth of the labels are wrong on purpose.",
    },
)
