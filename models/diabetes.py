"""How far has diabetes come a year later? A regression on ten measures of 442 people: few rows, and a noisy label."""

from __future__ import annotations

from typing import Any

from gateway.retraining.recipe import Feature, Recipe


def ridge() -> Any:
    """Hard to beat with so few rows."""
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), Ridge(alpha=10.0))


def boosting() -> Any:
    """Small trees, a hundred of them."""
    from sklearn.ensemble import GradientBoostingRegressor

    return GradientBoostingRegressor(n_estimators=100, max_depth=2, learning_rate=0.05, subsample=0.8)


recipe = Recipe(
    model="diabetes",
    features=[
        Feature(name="age", low=18.0, high=110.0),
        Feature(name="sex", kind="categorical", categories=(1, 2)),
        Feature(name="bmi", low=10.0, high=80.0),
        Feature(name="blood_pressure", low=30.0, high=200.0),
        *(Feature(name=name, low=0.0) for name in ("cholesterol", "ldl", "hdl", "cholesterol_hdl_ratio")),
        *(Feature(name=name, low=0.0) for name in ("log_triglycerides", "glucose")),
    ],
    label="progression",
    candidates={"ridge": ridge, "boosting": boosting},
    metric="mae",
    holdout_rows=120,
    validation_rows=100,
    least_rows=120,
    seed=3,
    card={
        "purpose": "Estimates the progression of diabetes one year later, on the scale of 25 to 346 of its study.",
        "data": "442 people of a study of 2004, see models/data/README.md",
        "limits": "An example of a regression, no medical device.",
    },
)
