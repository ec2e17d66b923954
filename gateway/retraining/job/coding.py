"""Texts as numbers, and rows that fit the recipe: what is done to a dataset before anything is fitted on it. Pure."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from msgspec.structs import replace as changed

from gateway.errors import InvalidConfig
from gateway.registry.reference import category
from gateway.retraining.recipe import Feature, Recipe
from gateway.retraining.rows.dataset import Dataset, IntArray, TextArray, as_texts

UNSEEN = -1.0
MISSING = -2.0


def coded(recipe: Recipe, dataset: Dataset) -> tuple[Recipe, Dataset]:
    """The dataset with numbers for its texts, and the recipe with the categories that the numbers stand for.

    A text's number is its place among the feature's categories, UNSEEN when it is none of them, MISSING when it is
    empty: never NaN, which encoders in a pipeline can not be converted with. Where the recipe
    names no categories, all texts of the rows are, in alphabetical order. Raises InvalidConfig for texts in a numeric
    feature.
    """
    if not dataset.texts and not any(is_text(feature) for feature in recipe.features):
        return recipe, dataset
    features, matrix = list(recipe.features), dataset.features.copy()
    texts = dict(dataset.texts)
    for column, feature in enumerate(features):
        if column not in texts and is_text(feature):  # numbers under a feature of texts: as the door writes them
            texts[column] = as_texts(matrix[:, column].tolist())
        if column in texts:
            features[column] = _with_categories(feature, texts[column])
            codes = {text: float(code) for code, text in enumerate(features[column].categories)}
            matrix[:, column] = [codes.get(text, UNSEEN) if text else MISSING for text in texts[column].tolist()]
    return replace(recipe, features=features), replace(dataset, features=matrix, texts=texts)


def is_text(feature: Feature) -> bool:
    """True when the feature's categories are texts."""
    return any(isinstance(category, str) for category in feature.categories)


def of_known_labels(recipe: Recipe, dataset: Dataset, most: float = 0.01) -> Dataset:
    """The rows without labels that are none of the recipe's classes, when they are a few strays; else all of them.

    One caller's odd label must not end every job until the row is forgotten; more than that is for a person to see.
    """
    if not recipe.is_class or not dataset.rows:
        return dataset
    known = np.array(
        [any(type(label) is type(one) and label == one for one in recipe.classes) for label in dataset.labels.tolist()]
    )
    strays = int((~known).sum())
    return taken(dataset, np.flatnonzero(known)) if 0 < strays <= most * dataset.rows else dataset


def taken(dataset: Dataset, places: IntArray) -> Dataset:
    """Only the rows at these places, under the digest of the whole."""
    return replace(
        dataset,
        features=dataset.features[places],
        labels=dataset.labels[places],
        predicted_ns=dataset.predicted_ns[places],
        labelled_ns=dataset.labelled_ns[places],
        texts={column: texts[places] for column, texts in dataset.texts.items()},
    )


def _with_categories(feature: Feature, texts: TextArray) -> Feature:
    if feature.kind != "categorical":
        odd = next(text for text in texts.tolist() if text)
        raise InvalidConfig(f"feature {feature.name}: {odd[:40]!r} is not a number; a text needs kind='categorical'")
    known = [category(one) for one in feature.categories] or sorted(set(texts.tolist()) - {""})
    return changed(feature, categories=tuple(known))
