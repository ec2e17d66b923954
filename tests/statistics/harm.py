"""Five ways in which retraining could harm people who ask the model, each tried again and again on other rows.

The rows: four features, the label hangs on two of them and on dice, one row a second, labels 20 s late. The champion
was fitted on the first rows; each attempt gets later ones and a recipe or rows that went wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from gateway.documents.job import JobState
from gateway.journal.join import LabelledRow
from gateway.retraining.job.run import JobSpec, run_job
from gateway.retraining.rows.dataset import write_dataset
from gateway.retraining.spec import JobResult

SECOND = 1_000_000_000
START_NS = 1_700_000_000 * SECOND
DELAY_SECONDS = 20
FEATURES = ["a", "b", "c", "d"]
ROWS = 1500
FIRST_ROWS = 900

RECIPE = """
import numpy as np
from gateway.retraining.recipe import Feature, Recipe
from sklearn.linear_model import LogisticRegression

class Spoiled(LogisticRegression):
    def fit(self, x, y):
        {spoil}
        self.__class__ = LogisticRegression
        return self

def good():
    return LogisticRegression()

def bad():
    return Spoiled()

def slow():
    from sklearn.ensemble import ExtraTreesClassifier
    return ExtraTreesClassifier(n_estimators=1500, max_depth=6)

recipe = Recipe(model="harm", features=[Feature(name=name) for name in {features}], label="y", classes=[0, 1],
                candidates={{"{candidate}": {candidate}}}, holdout_rows=200, validation_rows=300, least_rows=200)
"""
NAN = "super().fit(x, y); self.coef_ = self.coef_ * np.nan"
INVERTED = "super().fit(x, 1 - y)"


@dataclass(frozen=True)
class Harm:
    """How the attempt goes wrong. shuffle: the labels; the rest goes into the recipe."""

    shuffle: bool = False
    features: tuple[str, ...] = tuple(FEATURES)
    candidate: str = "good"
    spoil: str = "super().fit(x, y)"

    @property
    def recipe(self) -> str:
        """The recipe's text."""
        return RECIPE.format(features=list(self.features), candidate=self.candidate, spoil=self.spoil)


GOOD = "a good one"
HARMS = {
    "shuffled labels": Harm(shuffle=True),
    "wrong schema": Harm(features=("a", "b", "c", "e")),
    "NaN output": Harm(candidate="bad", spoil=NAN),
    "slower model": Harm(candidate="slow"),
    "worse than the majority": Harm(candidate="bad", spoil=INVERTED),
}


@dataclass(frozen=True)
class Attempts:
    """How the attempts of one kind ended: states, and the checks or reasons that stopped them."""

    states: Counter[str]
    reasons: Counter[str]

    @property
    def published(self) -> int:
        """Attempts that would have gone on to a rollout."""
        return self.states[JobState.PUBLISHED] + self.states[JobState.HELD]


def rows(count: int, seed: int, shuffle: bool = False) -> list[LabelledRow]:
    """Labelled rows in the order of their predictions."""
    random = np.random.default_rng(seed)
    features = random.random((count, len(FEATURES)))
    labels = (features[:, 0] + features[:, 1] / 2 + random.normal(scale=0.15, size=count) > 0.75).astype(int)
    if shuffle:
        labels = random.permutation(labels)
    return [
        LabelledRow(
            model="harm",
            ordinal=number + 1,
            id=f"r{number}",
            row=0,
            predicted_ns=START_NS + number * SECOND,
            labelled_ns=START_NS + (number + DELAY_SECONDS) * SECOND,
            contract=1,
            inputs=inputs,
            label=label,
            version=1,
            prediction=0,
        )
        for number, (inputs, label) in enumerate(zip(features.tolist(), labels.tolist(), strict=True))
    ]


def attempt(harm: Harm, seed: int, champion: Path, directory: Path) -> JobResult:
    """One job with this harm against the champion's package."""
    directory.mkdir(parents=True)
    (directory / "harm.py").write_text(harm.recipe)
    write_dataset(directory / "dataset", rows(ROWS, seed, harm.shuffle), model="harm", features=FEATURES)
    return run_job(
        JobSpec(
            job="j",
            model="harm",
            dataset=str(directory / "dataset"),
            out=str(directory / "out"),
            recipe=str(directory / "harm.py"),
            champion=str(champion),
            champion_trained_until_ns=START_NS + FIRST_ROWS * SECOND,
            seed=seed,
        )
    )


def make_champion(directory: Path, seed: int) -> Path:
    """The package of a version that was fitted on good rows."""
    directory.mkdir(parents=True)
    (directory / "harm.py").write_text(Harm().recipe)
    write_dataset(directory / "dataset", rows(FIRST_ROWS, seed), model="harm", features=FEATURES)
    spec = JobSpec(
        job="first",
        model="harm",
        dataset=str(directory / "dataset"),
        out=str(directory / "out"),
        recipe=str(directory / "harm.py"),
    )
    result = run_job(spec)
    assert result.state is JobState.PUBLISHED, result.detail
    return directory / "out" / "package"


def attempts(each: int, seed: int, kinds: Iterable[str] = HARMS) -> dict[str, Attempts]:
    """So many attempts of each kind, and of a good one, which must get through."""
    found = {}
    with TemporaryDirectory(prefix="gateway-harm-") as place:
        champion = make_champion(Path(place) / "champion", seed)
        for name, harm in {GOOD: Harm(), **{kind: HARMS[kind] for kind in kinds}}.items():
            results = list(_tried(harm, each, seed, champion, Path(place) / name.replace(" ", "-")))
            states = Counter(str(result.state) for result in results)
            found[name] = Attempts(states, Counter(reason for result in results for reason in _reasons(result)))
    return found


def _tried(harm: Harm, each: int, seed: int, champion: Path, place: Path) -> Iterator[JobResult]:
    for number in range(each):
        yield attempt(harm, seed + 1 + number, champion, place / str(number))


def _reasons(result: JobResult) -> list[str]:
    checks = [check["name"] for check in result.report.get("checks", ()) if not check["passed"]]
    return checks or ([result.detail.partition(":")[0][:60]] if result.state is JobState.FAILED else [])
