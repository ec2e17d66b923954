"""Which trees cover a patch of forest? 54 features of terrain and soil, seven kinds of cover, in the order of survey.

The rows come region by region, so the shares of the classes and the elevation move all the time, and some kinds do not
occur for thousands of rows. A label is known once somebody has been there: 100 rows later.
"""

from __future__ import annotations

from typing import Any

from gateway.retraining.recipe import Feature, Recipe

SHADES = ("hillshade_9am", "hillshade_noon", "hillshade_3pm")
DISTANCES = ("h_dist_hydrology", "h_dist_roadways", "h_dist_fire")
WILDERNESSES = tuple(f"wilderness_{number}" for number in range(1, 5))
SOILS = tuple(f"soil_{number}" for number in range(1, 41))


def extra_trees() -> Any:
    """Thirty random trees."""
    from sklearn.ensemble import ExtraTreesClassifier

    return ExtraTreesClassifier(n_estimators=30, min_samples_leaf=2, n_jobs=1)


def number(name: str) -> Feature:
    """A measure of the terrain, with the range that it can have at all."""
    if name in SHADES:
        return Feature(name=name, low=0.0, high=255.0)
    if name in DISTANCES:
        return Feature(name=name, low=0.0)  # metres
    ranges = {"elevation": (0.0, 4500.0), "aspect": (0.0, 360.0), "slope": (0.0, 90.0)}
    low, high = ranges.get(name, (None, None))
    return Feature(name=name, low=low, high=high)


def mark(name: str) -> Feature:
    """1 where the patch lies in this wilderness or on this soil, else 0."""
    return Feature(name=name, kind="categorical", categories=(0, 1))


MEASURES = (
    "elevation",
    "aspect",
    "slope",
    "h_dist_hydrology",
    "v_dist_hydrology",
    "h_dist_roadways",
    *SHADES,
    "h_dist_fire",
)

recipe = Recipe(
    model="covertype",
    features=[*map(number, MEASURES), *map(mark, WILDERNESSES + SOILS)],
    label="cover",
    classes=[0, 1, 2, 3, 4, 5, 6],
    candidates={"extra_trees": extra_trees},
    metric="accuracy",
    label_delay_rows=100,
    holdout_rows=200,
    validation_rows=300,
    least_rows=500,
    seed=11,
    slices=WILDERNESSES,
    card={
        "purpose": "Tells the kind of forest cover of a patch of 30 by 30 metres from its terrain and soil.",
        "data": "Forest Covertype, its first 25,000 rows, see models/data/README.md",
        "limits": "Four wilderness areas of northern Colorado; knows only kinds that its window held.",
    },
)
