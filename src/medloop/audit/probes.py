"""Shortcut probes: can the label be told from what has nothing to do with the disease?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medloop.metrics.estimate import Interval
from medloop.metrics.intervals import interval_for

Matrix = NDArray[np.floating[Any]]
Whole = NDArray[np.int64]
# From the number of training cases to an unfitted model.
Model = Callable[[int], Any]

FOLDS, DRAWS, SEED = 5, 500, 0
# Fewer independent groups than this in a class, and nothing is said about it.
FEWEST_GROUPS = 5
# Chance of one false alarm a probe. Low, since every data set meets several probes.
ALPHA = 0.002


@dataclass(frozen=True, kw_only=True)
class Probe:
    """How well one kind of evidence alone tells each class from the rest, on cases that the model had not seen."""

    name: str
    by_class: Mapping[str, Interval]
    macro: Interval
    p_value: float
    cases: int
    groups: int

    @property
    def best(self) -> tuple[str, Interval]:
        """The class that is told apart best."""
        return max(self.by_class.items(), key=lambda item: item[1].value)

    def fires(self, floor: float) -> bool:
        """Whether some class is told apart by more than luck, and by enough to matter."""
        return self.p_value < ALPHA and self.best[1].value >= floor


@dataclass(frozen=True, kw_only=True)
class Task:
    """The cases that probes are run on: class numbers, class names, and groups that no fold may tear apart."""

    y: Whole
    names: tuple[str, ...]
    groups: Whole
    places: Whole


def probe_task(labels: pd.Series[str], groups: Whole, *, most: int, seed: int = SEED) -> Task | None:
    """The classes with enough groups; of a large set a seeded sample of whole groups. None where nothing is left."""
    independent = pd.Series(groups, index=labels.index).groupby(labels).nunique()
    names = tuple(sorted(str(name) for name, count in independent.items() if count >= FEWEST_GROUPS))
    if len(names) < 2:
        return None
    places = np.flatnonzero(labels.isin(names))
    order = np.random.default_rng(seed).permutation(np.unique(groups[places]))
    rank = np.empty(int(groups.max()) + 1, np.int64)
    rank[order] = np.arange(len(order))
    places = np.sort(places[np.argsort(rank[groups[places]], kind="stable")][:most])
    numbers = {name: number for number, name in enumerate(names)}
    y = np.array([numbers[label] for label in labels.iloc[places]], np.int64)
    return Task(y=y, names=names, groups=np.unique(groups[places], return_inverse=True)[1], places=places)


def run_probe(name: str, features: Matrix, task: Task, model: Model) -> Probe:
    """The probe's figures, all from cases that its model had not seen."""
    return measure_probe(name, out_of_fold(features, task, model), task)


def measure_probe(name: str, shares: Matrix, task: Task) -> Probe:
    """Class by class and over all classes, with intervals that draw whole groups."""

    def interval(y: Any, shown: Matrix) -> Interval:
        return interval_for("roc_auc", y, shown, groups=task.groups, draws=DRAWS, seed=SEED)

    by_class = {
        label: interval(task.y == k, np.stack([1 - shares[:, k], shares[:, k]], axis=1))
        for k, label in enumerate(task.names)
    }
    macro = interval(task.y, shares)
    chances = [_chance(shares[:, k], task.y == k, task.groups) for k in range(len(task.names))]
    return Probe(
        name=name,
        by_class=by_class,
        macro=macro,
        p_value=min(1.0, min(chances) * len(chances)),
        cases=len(task.y),
        groups=len(np.unique(task.groups)),
    )


def out_of_fold(features: Matrix, task: Task, model: Model) -> Matrix:
    """The share of each class that a model gives to each case without having seen it or its group."""
    from sklearn.model_selection import StratifiedGroupKFold

    fewest = min(len(np.unique(task.groups[task.y == k])) for k in range(len(task.names)))
    folds = StratifiedGroupKFold(min(FOLDS, fewest), shuffle=True, random_state=SEED)
    shares = np.zeros((len(task.y), len(task.names)))
    for train, test in folds.split(features, task.y, task.groups):
        fitted = model(len(train)).fit(features[train], task.y[train])
        shares[np.ix_(test, fitted.classes_)] = fitted.predict_proba(features[test])
    return np.asarray(shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-12))


def _chance(score: Matrix, positive: NDArray[np.bool_], groups: Whole) -> float:
    """How often luck alone would separate the groups this well: a group counts once, however many cases it has."""
    from scipy.stats import mannwhitneyu

    table = pd.DataFrame({"score": score, "positive": positive, "group": groups}).groupby("group").mean()
    high, low = table["score"][table["positive"] >= 0.5], table["score"][table["positive"] < 0.5]
    if not len(high) or not len(low) or table["score"].nunique() < 2:
        return 1.0
    return float(mannwhitneyu(high, low, alternative="greater").pvalue)


def trees(_: int) -> Any:
    """A model for figures of mixed kinds."""
    from sklearn.ensemble import ExtraTreesClassifier

    return ExtraTreesClassifier(100, min_samples_leaf=3, class_weight="balanced", random_state=SEED)


def linear(cases: int) -> Any:
    """A model for many figures of one kind."""
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    logistic = LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000)
    reduced = PCA(min(50, cases - 1), whiten=True, random_state=SEED)
    return make_pipeline(StandardScaler(), reduced, logistic)
