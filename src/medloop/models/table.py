"""Table estimators: a function each, whose keyword arguments are the hyperparameters."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

Estimator = Any
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(ge=1)]
ClassWeight = Literal["balanced"] | None


def logistic_regression(
    *, seed: int, C: Positive = 1.0, class_weight: ClassWeight = None, max_iter: Count = 5000
) -> Estimator:
    """A weighted sum of the columns; the baseline to beat."""
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=C, class_weight=class_weight, max_iter=max_iter, random_state=seed)


def decision_tree(
    *, seed: int, max_depth: Count | None = 5, min_samples_leaf: Count = 5, class_weight: ClassWeight = None
) -> Estimator:
    """A sequence of yes-or-no questions; easy to read, rarely the best."""
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(
        max_depth=max_depth, min_samples_leaf=min_samples_leaf, class_weight=class_weight, random_state=seed
    )


def random_forest(
    *,
    seed: int,
    n_estimators: Count = 200,
    max_depth: Count | None = None,
    min_samples_leaf: Count = 1,
    class_weight: ClassWeight = None,
) -> Estimator:
    """The vote of many trees, each on resampled cases."""
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(
        n_estimators=n_estimators,
        max_depth=max_depth,
        min_samples_leaf=min_samples_leaf,
        class_weight=class_weight,
        random_state=seed,
    )


def extra_trees(*, seed: int, n_estimators: Count = 200, min_samples_leaf: Count = 1) -> Estimator:
    """The vote of many trees with random splits."""
    from sklearn.ensemble import ExtraTreesClassifier

    return ExtraTreesClassifier(n_estimators=n_estimators, min_samples_leaf=min_samples_leaf, random_state=seed)


def gradient_boosting(
    *, seed: int, n_estimators: Count = 100, learning_rate: Positive = 0.1, max_depth: Count = 3, subsample: Share = 1.0
) -> Estimator:
    """Small trees, each correcting the errors of those before it."""
    from sklearn.ensemble import GradientBoostingClassifier

    return GradientBoostingClassifier(
        n_estimators=n_estimators,
        learning_rate=learning_rate,
        max_depth=max_depth,
        subsample=subsample,
        random_state=seed,
    )


def svc(
    *,
    seed: int,  # noqa: ARG001 - every entry takes a seed; this estimator draws no random numbers
    C: Positive = 1.0,
    kernel: Literal["rbf", "linear"] = "rbf",
    class_weight: ClassWeight = None,
) -> Estimator:
    """A maximum-margin classifier, with probabilities by Platt scaling on held-out folds."""
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.svm import SVC

    return CalibratedClassifierCV(SVC(C=C, kernel=kernel, class_weight=class_weight), ensemble=False)


def mlp(*, seed: int, hidden: Count = 32, alpha: NotNegative = 1e-3, max_iter: Count = 1000) -> Estimator:
    """A small neural network of one hidden layer."""
    from sklearn.neural_network import MLPClassifier

    return MLPClassifier(hidden_layer_sizes=(hidden,), alpha=alpha, max_iter=max_iter, random_state=seed)
