"""Shortcut probes: simple models that predict the label from features that cannot show the disease."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medloop.metrics.intervals.bootstrap import Resampling
from medloop.metrics.intervals.by_metric import interval_for
from medloop.metrics.intervals.estimate import Interval

Matrix = NDArray[np.floating[Any]]
Whole = NDArray[np.int64]
# Returns an unfitted model for a number of training cases.
Model = Callable[[int], Any]

FOLDS, DRAWS, SEED = 5, 500, 0
# Classes with fewer independent groups are left out.
MIN_GROUPS = 5
# The probability of a false alarm of one probe; low, because several probes run on every data set.
ALPHA = 0.002
# The probes that raise an alarm; the others are baselines.
SHORTCUTS = ("metadata", "file_name", "border")


@dataclass(frozen=True, kw_only=True)
class Probe:
    """How well one kind of feature alone separates each class from the rest, out of fold."""

    name: str
    by_class: Mapping[str, Interval]
    macro: Interval
    p_value: float
    cases: int
    groups: int

    @property
    def best(self) -> tuple[str, Interval]:
        """Return the class that is separated best, with its AUC."""
        return max(self.by_class.items(), key=lambda item: item[1].value)

    def fires(self, floor: float) -> bool:
        """Return whether a class is separated significantly and by enough to matter."""
        return self.p_value < ALPHA and self.best[1].value >= floor


@dataclass(frozen=True, kw_only=True)
class Task:
    """The cases that probes run on: class numbers, class names, and groups that stay in one fold."""

    y: Whole
    names: tuple[str, ...]
    groups: Whole
    places: Whole


def probe_task(labels: pd.Series[str], groups: Whole, *, max_cases: int, seed: int = SEED) -> Task | None:
    """Return at most `max_cases` cases of the classes with enough groups; None if fewer than two classes remain."""
    independent = pd.Series(groups, index=labels.index).groupby(labels).nunique()
    names = tuple(sorted(str(name) for name, count in independent.items() if count >= MIN_GROUPS))
    if len(names) < 2:
        return None
    places = np.flatnonzero(labels.isin(names))
    order = np.random.default_rng(seed).permutation(np.unique(groups[places]))
    rank = np.empty(int(groups.max()) + 1, np.int64)
    rank[order] = np.arange(len(order))
    places = np.sort(places[np.argsort(rank[groups[places]], kind="stable")][:max_cases])
    numbers = {name: number for number, name in enumerate(names)}
    y = np.array([numbers[label] for label in labels.iloc[places]], np.int64)
    return Task(y=y, names=names, groups=np.unique(groups[places], return_inverse=True)[1], places=places)


def run_probe(name: str, features: Matrix, task: Task, model: Model) -> Probe:
    """Fit the probe out of fold and return its results."""
    return measure_probe(name, out_of_fold(features, task, model), task)


def measure_probe(name: str, shares: Matrix, task: Task) -> Probe:
    """Return the AUC of each class and over all classes, with intervals that resample whole groups."""

    def interval(y: Any, probabilities: Matrix) -> Interval:
        return interval_for("roc_auc", y, probabilities, Resampling(groups=task.groups, draws=DRAWS, seed=SEED))

    by_class = {
        label: interval(task.y == k, np.stack([1 - shares[:, k], shares[:, k]], axis=1))
        for k, label in enumerate(task.names)
    }
    macro = interval(task.y, shares)
    chances = [_p_value(shares[:, k], task.y == k, task.groups) for k in range(len(task.names))]
    return Probe(
        name=name,
        by_class=by_class,
        macro=macro,
        p_value=min(1.0, min(chances) * len(chances)),
        cases=len(task.y),
        groups=len(np.unique(task.groups)),
    )


def out_of_fold(features: Matrix, task: Task, model: Model) -> Matrix:
    """Return the class probabilities of each case from a model that was trained without its group."""
    from sklearn.model_selection import StratifiedGroupKFold

    fewest = min(len(np.unique(task.groups[task.y == k])) for k in range(len(task.names)))
    folds = StratifiedGroupKFold(min(FOLDS, fewest), shuffle=True, random_state=SEED)
    shares = np.zeros((len(task.y), len(task.names)))
    for train, test in folds.split(features, task.y, task.groups):
        fitted = model(len(train)).fit(features[train], task.y[train])
        shares[np.ix_(test, fitted.classes_)] = fitted.predict_proba(features[test])
    return np.asarray(shares / np.maximum(shares.sum(axis=1, keepdims=True), 1e-12))


def _p_value(score: Matrix, positive: NDArray[np.bool_], groups: Whole) -> float:
    """Return the p-value of a Mann-Whitney test in which each group counts once."""
    from scipy.stats import mannwhitneyu

    table = pd.DataFrame({"score": score, "positive": positive, "group": groups}).groupby("group").mean()
    high, low = table["score"][table["positive"] >= 0.5], table["score"][table["positive"] < 0.5]
    if not len(high) or not len(low) or table["score"].nunique() < 2:
        return 1.0
    return float(mannwhitneyu(high, low, alternative="greater").pvalue)


def trees(_: int) -> Any:
    """Return a model for features of mixed types."""
    from sklearn.ensemble import ExtraTreesClassifier

    return ExtraTreesClassifier(100, min_samples_leaf=3, class_weight="balanced", random_state=SEED)


def linear(cases: int) -> Any:
    """Return a model for many features of one type."""
    from sklearn.decomposition import PCA
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    logistic = LogisticRegression(C=0.1, class_weight="balanced", max_iter=1000)
    reduced = PCA(min(50, cases - 1), whiten=True, random_state=SEED)
    return make_pipeline(StandardScaler(), reduced, logistic)
