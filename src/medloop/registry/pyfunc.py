"""What `mlflow models serve` loads: the bundle through the Predictor, with nothing pickled."""

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
    """A bundle behind MLflow's interface: rows of a table, or a column `image` of files, as bytes or in base64."""

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def predict(self, frame: Any, params: Any = None) -> Sequence[dict[str, Any]]:  # noqa: ARG002 - MLflow's signature
        """One answer a row of the frame."""
        if self.predictor.needs_patients:
            return self._of_patients(frame)
        if self.predictor.meta["preparer"]["kind"] == "image":
            return [self._of_image(data) for data in _images(frame)]
        rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
        return [_told(answer) for answer in self.predictor.predict(rows)]

    def _of_image(self, data: Any) -> dict[str, Any]:
        """A file that cannot be read is told in its own row, so that the others are answered."""
        return self._of_patient([data])

    def _of_patients(self, frame: Any) -> Sequence[dict[str, Any]]:
        """The patient's answer in the row of each slice."""
        if PATIENT_COLUMN not in frame or frame[PATIENT_COLUMN].isna().any():
            raise needs_patients(len(frame), hint=f"name the patient of each image in a column `{PATIENT_COLUMN}`")
        images, patients = _images(frame.drop(columns=PATIENT_COLUMN)), list(frame[PATIENT_COLUMN])
        slices = slices_of(patients)
        answers = {one: self._of_patient([images[row] for row in rows]) for one, rows in slices.items()}
        return [answers[patient] for patient in patients]

    def _of_patient(self, images: Sequence[Any]) -> dict[str, Any]:
        try:
            slices = [_bytes(data) for data in images]
            return _told(self.predictor.predict(slices, patients=[0] * len(slices))[0])
        except RejectedInput as error:
            nothing = dict.fromkeys(self.predictor.decider.classes)
            return {"label": None, "abstained": True, "reason": f"{error.must}: {error.found}", **nothing}


def _told(answer: Prediction) -> dict[str, Any]:
    return {"label": answer.label, "abstained": answer.abstained, "reason": answer.reason, **answer.probabilities}


def _images(frame: Any) -> list[Any]:
    columns = list(frame.columns)
    if IMAGE_COLUMN not in columns and len(columns) != 1:
        raise RejectedInput(
            f"an image model needs a column `{IMAGE_COLUMN}`",
            found=f"{len(columns)} columns",
            hint="send files as bytes or in base64",
        )
    return list(frame[IMAGE_COLUMN if IMAGE_COLUMN in columns else columns[0]])


def _bytes(data: Any) -> bytes:
    if isinstance(data, bytes | bytearray | memoryview):
        return bytes(data)
    try:
        return base64.b64decode(data, validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise RejectedInput(
            "an image must be bytes or base64", found=type(data).__name__, hint="encode the file in base64"
        ) from error


def _load_pyfunc(path: str) -> PredictorModel:
    return PredictorModel(Predictor.load(Path(path)))
