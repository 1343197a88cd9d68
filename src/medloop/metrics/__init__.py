"""METRICS: every metric by name. Their intervals are in `medloop.metrics.intervals`."""

from __future__ import annotations

from math import inf

from medloop.metrics import calibration, counts, ranking
from medloop.metrics.metric import Metric, Vectorised

__all__ = ["MAIN_METRICS", "METRICS", "Metric"]

METRICS: dict[str, Metric] = {
    "accuracy": Metric(
        main=True,
        function=Vectorised(counts.accuracy),
        uses="decision",
        better="higher",
        ideal=1.0,
        of="cases",
        says="share of cases that are classified correctly",
    ),
    "balanced_accuracy": Metric(
        main=True,
        function=Vectorised(counts.balanced_accuracy),
        uses="decision",
        better="higher",
        ideal=1.0,
        says="mean of the sensitivities of all classes",
    ),
    "precision": Metric(
        main=True,
        function=Vectorised(counts.precision),
        uses="decision",
        better="higher",
        ideal=1.0,
        of="predicted",
        says="share of positive decisions that are correct (positive predictive value)",
    ),
    "recall": Metric(
        main=True,
        function=Vectorised(counts.recall),
        uses="decision",
        better="higher",
        ideal=1.0,
        of="positives",
        says="share of positive cases that are found (sensitivity)",
    ),
    "specificity": Metric(
        main=True,
        function=Vectorised(counts.specificity),
        uses="decision",
        better="higher",
        ideal=1.0,
        of="negatives",
        says="share of negative cases that are classified as negative",
    ),
    "f1": Metric(
        main=True,
        function=Vectorised(counts.f1),
        uses="decision",
        better="higher",
        ideal=1.0,
        says="harmonic mean of precision and recall",
    ),
    "mcc": Metric(
        function=Vectorised(counts.mcc),
        uses="decision",
        better="higher",
        ideal=1.0,
        bounds=(-1.0, 1.0),
        says="Matthews correlation of true class and decision, from -1 to 1",
    ),
    "roc_auc": Metric(
        main=True,
        function=Vectorised(ranking.roc_auc),
        uses="probability",
        better="higher",
        ideal=1.0,
        says="probability that a positive case scores higher than a negative one",
    ),
    "pr_auc": Metric(
        main=True,
        function=Vectorised(ranking.pr_auc),
        uses="probability",
        better="higher",
        ideal=1.0,
        says="area under the precision-recall curve (average precision)",
    ),
    "sensitivity_at_90_specificity": Metric(
        function=Vectorised(ranking.sensitivity_at_90_specificity),
        uses="probability",
        better="higher",
        ideal=1.0,
        says="highest sensitivity at a threshold with at least 90% specificity on these cases",
    ),
    "sensitivity_at_95_specificity": Metric(
        function=Vectorised(ranking.sensitivity_at_95_specificity),
        uses="probability",
        better="higher",
        ideal=1.0,
        says="highest sensitivity at a threshold with at least 95% specificity on these cases",
    ),
    "specificity_at_90_sensitivity": Metric(
        function=Vectorised(ranking.specificity_at_90_sensitivity),
        uses="probability",
        better="higher",
        ideal=1.0,
        says="highest specificity at a threshold with at least 90% sensitivity on these cases",
    ),
    "specificity_at_95_sensitivity": Metric(
        function=Vectorised(ranking.specificity_at_95_sensitivity),
        uses="probability",
        better="higher",
        ideal=1.0,
        says="highest specificity at a threshold with at least 95% sensitivity on these cases",
    ),
    "log_loss": Metric(
        main=True,
        function=Vectorised(calibration.log_loss),
        uses="probability",
        better="lower",
        ideal=0.0,
        bounds=(0.0, inf),
        says="mean negative logarithm of the predicted probability of the true class",
    ),
    "brier": Metric(
        main=True,
        function=Vectorised(calibration.brier),
        uses="probability",
        better="lower",
        ideal=0.0,
        says="mean squared difference between predicted probability and outcome",
    ),
    "ece": Metric(
        function=Vectorised(calibration.ece),
        uses="probability",
        better="lower",
        ideal=0.0,
        says="mean difference between predicted and observed frequency, 15 bins of equal size",
    ),
    "calibration_slope": Metric(
        function=Vectorised(calibration.calibration_slope),
        uses="probability",
        better="nearest",
        ideal=1.0,
        bounds=(-inf, inf),
        says="slope of the outcome on the predicted log-odds; below 1 the model is over-confident",
    ),
    "calibration_intercept": Metric(
        function=Vectorised(calibration.calibration_intercept),
        uses="probability",
        better="nearest",
        ideal=0.0,
        bounds=(-inf, inf),
        says="shift of the log-odds that corrects the mean risk; above 0 the risk is underestimated",
    ),
}

# The metrics of tables that have no room for all of them.
MAIN_METRICS = tuple(name for name, metric in METRICS.items() if metric.main)
