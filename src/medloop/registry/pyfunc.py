"""The model that `mlflow models serve` loads: a bundle with its Predictor, without pickle."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from medloop.bundle.patients import slices_of
from medloop.bundle.predictor import Predictor, needs_patients
from medloop.case import Prediction
from medloop.errors import RejectedInput

IMAGE_COLUMN = "image"
PATIENT_COLUMN = "patient"


class PredictorModel:
    """A bundle with MLflow's interface: rows of a table, or a column `image` of files as bytes or base64."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def predict(self, frame: Any, params: Any = None) -> Sequence[dict[str, Any]]:  # noqa: ARG002 - MLflow's signature
        """Return a prediction for each row of the frame."""
        if self.predictor.needs_patients:
            return self._predict_patients(frame)
        if self.predictor.meta["preparer"]["kind"] == "image":
            return [self._predict_image(data) for data in _images(frame)]
        rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
        return [_to_row(answer) for answer in self.predictor.predict(rows)]

    def _predict_image(self, data: Any) -> dict[str, Any]:
        """Return the prediction for an image; an unreadable one is reported in its row, so that the others succeed."""
        return self._predict_patient([data])

    def _predict_patients(self, frame: Any) -> Sequence[dict[str, Any]]:
        """Return the prediction of the patient in the row of each slice."""
        if PATIENT_COLUMN not in frame or frame[PATIENT_COLUMN].isna().any():
            raise needs_patients(len(frame), hint=f"Name the patient of each image in a column `{PATIENT_COLUMN}`.")
        images, patients = _images(frame.drop(columns=PATIENT_COLUMN)), list(frame[PATIENT_COLUMN])
        slices = slices_of(patients)
        answers = {one: self._predict_patient([images[row] for row in rows]) for one, rows in slices.items()}
        return [answers[patient] for patient in patients]

    def _predict_patient(self, images: Sequence[Any]) -> dict[str, Any]:
        try:
            slices = [_decode_base64(data) for data in images]
            return _to_row(self.predictor.predict(slices, patients=[0] * len(slices))[0])
        except RejectedInput as error:
            nothing = dict.fromkeys(self.predictor.decider.classes)
            return {"label": None, "abstained": True, "reason": error.problem, **nothing}


def _to_row(answer: Prediction) -> dict[str, Any]:
    return {"label": answer.label, "abstained": answer.abstained, "reason": answer.reason, **answer.probabilities}


def _images(frame: Any) -> list[Any]:
    columns = list(frame.columns)
    if IMAGE_COLUMN not in columns and len(columns) != 1:
        raise RejectedInput(
            f"The {len(columns)} columns do not include `{IMAGE_COLUMN}`, which an image model needs.",
            "Send files as bytes or base64 in this column.",
        )
    return list(frame[IMAGE_COLUMN if IMAGE_COLUMN in columns else columns[0]])


def _decode_base64(data: Any) -> bytes:
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise RejectedInput(
            f"An image is neither bytes nor base64 but {type(data).__name__}.", "Encode the file in base64."
        ) from error


def _load_pyfunc(path: str) -> PredictorModel:
    return PredictorModel(Predictor.load(Path(path)))
