"""What `mlflow models serve` loads: the bundle through the Predictor, with nothing pickled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medloop.bundle.predictor import Predictor


class PredictorModel:
    """A bundle behind MLflow's interface."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def predict(self, frame: Any, params: Any = None) -> Sequence[dict[str, Any]]:  # noqa: ARG002 - MLflow's signature
        """One answer a row of the frame."""
        rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
        answers = self.predictor.predict(rows)
        return [{"label": a.label, "abstained": a.abstained, "reason": a.reason, **a.probabilities} for a in answers]


def _load_pyfunc(path: str) -> PredictorModel:
    return PredictorModel(Predictor.load(Path(path)))
