"""The bodies of requests and responses."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MAX_RECORDS = 10_000
MAX_COLUMNS = 10_000

PATIENT = (
    "The patient that the image belongs to: any name or number; only a keyed hash of it is stored. Required if the "
    "model decides per patient (`per` in GET /v1/model) and the file is not a DICOM file that names its patient; "
    "ignored otherwise."
)

Text = Annotated[str, Field(max_length=10_000)]
Base64 = Annotated[str, Field(min_length=1)]
Value = Annotated[float, Field(strict=True, allow_inf_nan=False)] | Text | None
Features = Annotated[list[Value], Field(min_length=1, max_length=MAX_COLUMNS)]
Record = Annotated[dict[str, Value], Field(min_length=1, max_length=MAX_COLUMNS)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class FeaturesBody(_Body):
    """The short form: the values of one case, in the order of the table's columns."""

    features: Features


class RecordsBody(_Body):
    """Named records, one per case."""

    records: Annotated[list[Record], Field(min_length=1, max_length=MAX_RECORDS)]


class ImageBody(_Body):
    """The short form: one image file in base64, or all slices of a patient if the model decides per patient."""

    image: Base64 | Annotated[list[Base64], Field(min_length=1, max_length=MAX_RECORDS)]
    patient: Annotated[str, Field(max_length=200, description=PATIENT)] | None = None


class PredictionBody(BaseModel):
    """One prediction."""

    id: str
    label: str | None
    probabilities: dict[str, float]
    threshold: float | None
    conformal_set: list[str]
    abstained: bool
    reason: str | None
    model: str
    version: str
    bundle: str
    latency_ms: float


class SliceBody(BaseModel):
    """A slice that a prediction is based on: the name and number of its file, and the frame within it."""

    file: str
    number: int
    frame: int


class PatientPredictionBody(PredictionBody):
    """One prediction for a patient: the keyed hash of the patient, and the slices in the order of storage."""

    patient: str
    slices: list[SliceBody]


class FilePredictionBody(PredictionBody):
    """One prediction, and the name of its file."""

    file: str


class RejectedBody(BaseModel):
    """A file that could not be used."""

    file: str
    number: int
    message: str
    hint: str


class PredictionsBody(BaseModel):
    """The predictions, in the order of the records."""

    predictions: list[PredictionBody]


class FilePredictionsBody(BaseModel):
    """The predictions, in the order of the files, and the files that could not be used."""

    predictions: list[FilePredictionBody]
    rejected: list[RejectedBody]


class PatientPredictionsBody(BaseModel):
    """The predictions, in the order in which the patients first appear, and the files that could not be used."""

    predictions: list[PatientPredictionBody]
    rejected: list[RejectedBody]


class StoredBody(PredictionBody):
    """A stored prediction, with its time and kind of input; the patient is a keyed hash."""

    at: str
    kind: str
    has_input: bool
    patient: str | None
    slices: int


class ColumnBody(BaseModel):
    """One input of the model."""

    name: str
    kind: str


class ModelBody(BaseModel):
    """The active version."""

    name: str
    version: str
    bundle: str
    classes: list[str]
    positive: list[str]
    threshold: float | None
    threshold_rule: str
    per: Literal["case", "patient"]
    combine: str | None
    kind: str
    columns: list[ColumnBody]
    input: dict[str, Any] | None
    data_version: str
    edition: str
    created: str


class VersionBody(BaseModel):
    """One registered version."""

    version: int
    bundle: str
    created: str
    gate: Literal["passed", "refused"]
    is_champion: bool


class VersionsBody(BaseModel):
    """Every registered version, oldest first."""

    versions: list[VersionBody]


class ChampionBody(BaseModel):
    """The new champion."""

    model_config = ConfigDict(from_attributes=True)

    version: int
    bundle: str
    previous: int | None
    promoted: str
    by: str


class CorrectBody(_Body):
    """A report of a wrong prediction."""

    prediction_id: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    label: Annotated[str, Field(min_length=1, max_length=200)]
    reason: Annotated[str, Field(min_length=1, max_length=1000)]


class CorrectionBody(BaseModel):
    """A correction and its state."""

    model_config = ConfigDict(from_attributes=True)

    id: str
    prediction_id: str
    label: str
    reason: str
    who: str
    when: str
    state: str


class CorrectionsBody(BaseModel):
    """Corrections, oldest first."""

    corrections: list[CorrectionBody]


class ReviewBody(_Body):
    """The decision of a second person on a correction."""

    decision: Literal["accepted", "rejected", "second_reader"]
    reason: Annotated[str, Field(max_length=1000)] = ""


class HealthBody(BaseModel):
    """The state of the service."""

    status: str


class ErrorBody(BaseModel):
    """Every error has this form."""

    error: str
    message: str
    hint: str
    trace_id: str
