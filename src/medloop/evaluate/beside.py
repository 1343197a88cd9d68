"""Another scorer on the same locked cases, such as an untrained network: what needs no training deserves no praise."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from medloop.bundle.decide import Decider
from medloop.errors import UserError
from medloop.evaluate.figures import Measured, figures_of
from medloop.metrics import METRICS
from medloop.metrics.bootstrap import paired_bootstrap
from medloop.metrics.view import FloatArray, decided, positive_view
from medloop.recipe import EvaluateSection

SHOWN = ("accuracy", "balanced_accuracy", "roc_auc", "pr_auc", "brier")


@dataclass(frozen=True, kw_only=True)
class Beside:
    """What it is, and its probability of each class (in the bundle's order) for each test case."""

    name: str
    says: str
    probabilities: FloatArray


def beside_figures(beside: Beside, measured: Measured, decider: Decider, section: EvaluateSection) -> dict[str, Any]:
    """Its figures, and by how much the bundle's area is larger on the same draws of the same cases."""
    cases = sum(len(rows) for rows in measured.answers.members)
    if beside.probabilities.shape != (cases, len(decider.classes)):
        raise UserError(
            "what stands beside the bundle must be measured on the same cases",
            found=f"{beside.probabilities.shape} for {cases} cases of {len(decider.classes)} classes",
            hint="run `medloop evaluate` again",
        )
    table = np.array([beside.probabilities[rows].mean(axis=0) for rows in measured.answers.members])
    _, shares = positive_view(measured.y, table, decider.classes, decider.positive)
    figures = figures_of(measured.truth, shares, decided(shares), measured.groups, section, names=SHOWN)
    gain = paired_bootstrap(
        METRICS["roc_auc"],
        measured.truth,
        measured.shares,
        shares,
        groups=measured.groups,
        draws=section.draws,
        seed=section.seed,
    )
    return {"name": beside.name, "says": beside.says, "figures": figures, "gain": {"roc_auc": asdict(gain)}}
