"""Is a lump malignant? Thirty measures of cell nuclei, 569 patients: a small familiar set, with a heuristic beside it.

The rule is what a first version may be before anything was learned: whoever writes it down has a version with the same
contract, gate and monitor as any other, and sees from then on by how much a trained one is better.
"""

from __future__ import annotations

from typing import Any

from gateway.retraining.recipe import Feature, Recipe
from gateway.retraining.rule import Rule, RuleClassifier

MEASURES = (
    "radius",
    "texture",
    "perimeter",
    "area",
    "smoothness",
    "compactness",
    "concavity",
    "concave_points",
    "symmetry",
    "fractal_dimension",
)
NAMES = tuple(
    name
    for before, behind in (("mean_", ""), ("", "_error"), ("worst_", ""))
    for name in (f"{before}{measure}{behind}" for measure in MEASURES)
)


def rule() -> Any:
    """Large nuclei, or nuclei with many hollows."""
    return RuleClassifier(
        NAMES,
        [
            Rule(then=1, when=[("worst_area", ">", 1000)]),
            Rule(then=1, when=[("worst_concave_points", ">", 0.16), ("worst_radius", ">", 14)]),
        ],
        otherwise=0,
    )


def logistic() -> Any:
    """All measures weighed."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))


recipe = Recipe(
    model="breast_cancer",
    features=[Feature(name=name, low=0.0) for name in NAMES],
    label="malignant",
    classes=[0, 1],
    candidates={"rule": rule, "logistic": logistic},
    metric="balanced_accuracy",
    holdout_rows=120,
    validation_rows=120,
    least_rows=100,
    seed=5,
    card={
        "purpose": "Tells malignant from benign lumps by measures of their cell nuclei.",
        "data": "Breast Cancer Wisconsin (Diagnostic), 569 patients, see models/data/README.md",
        "limits": "An example of a recipe, no medical device.",
    },
)
