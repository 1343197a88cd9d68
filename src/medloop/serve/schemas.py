"""What goes over the wire."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

MOST_RECORDS = 10_000
MOST_COLUMNS = 10_000

PATIENT = (
    "Whose picture it is: any name or number, which is kept as a keyed hash only. Needed where the model decides per "
    "patient (`per` of GET /v1/model) and a file is no DICOM file that names its patient; else it has no effect."
)

Text = Annotated[str, Field(max_length=10_000)]
Base64 = Annotated[str, Field(min_length=1)]
Value = Annotated[float, Field(strict=True, allow_inf_nan=False)] | Text | None
Features = Annotated[list[Value], Field(min_length=1, max_length=MOST_COLUMNS)]
Record = Annotated[dict[str, Value], Field(min_length=1, max_length=MOST_COLUMNS)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class FeaturesBody(_Body):
    """The short form: the values of one case, in the table's order."""

    features: Features


class RecordsBody(_Body):
    """Named records, one a case."""

    records: Annotated[list[Record], Field(min_length=1, max_length=MOST_RECORDS)]


class ImageBody(_Body):
    """The short form: one image file in base64, or all slices of a patient where the model decides per patient."""

    image: Base64 | Annotated[list[Base64], Field(min_length=1, max_length=MOST_RECORDS)]
    patient: Annotated[str, Field(max_length=200, description=PATIENT)] | None = None


class PredictionBody(BaseModel):
    """One answer."""

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
    """A slice that an answer rests on: the name and number of its file, and the frame within it."""

    file: str
    number: int
    frame: int


class PatientPredictionBody(PredictionBody):
    """One answer for a patient: the keyed hash of the patient, and the slices in the order in which they are kept."""

    patient: str
    slices: list[SliceBody]


class FilePredictionBody(PredictionBody):
    """One answer, and the name of the file that it is for."""

    file: str


class RejectedBody(BaseModel):
    """A file that could not be used; the others were."""

    file: str
    number: int
    message: str
    hint: str


class PredictionsBody(BaseModel):
    """The answers, in the order of the records."""

    predictions: list[PredictionBody]


class FilePredictionsBody(BaseModel):
    """The answers, in the order of the files, and the files that got none."""

    predictions: list[FilePredictionBody]
    rejected: list[RejectedBody]


class PatientPredictionsBody(BaseModel):
    """The answers, in the order in which the patients first appear, and the files that could not be used."""

    predictions: list[PatientPredictionBody]
    rejected: list[RejectedBody]


class StoredBody(PredictionBody):
    """An answer that was given, when and for what; the patient is a keyed hash."""

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
    """What serves."""

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
    """What serves from now on."""

    model_config = ConfigDict(from_attributes=True)

    version: int
    bundle: str
    previous: int | None
    promoted: str
    by: str


class CorrectBody(_Body):
    """That an answer was wrong."""

    prediction_id: Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
    label: Annotated[str, Field(min_length=1, max_length=200)]
    reason: Annotated[str, Field(min_length=1, max_length=1000)]


class CorrectionBody(BaseModel):
    """A correction, and what became of it."""

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
    """What a second person says of a correction."""

    decision: Literal["accepted", "rejected", "second_reader"]
    reason: Annotated[str, Field(max_length=1000)] = ""


class HealthBody(BaseModel):
    """Alive, or able to answer."""

    status: str


class ErrorBody(BaseModel):
    """Every error has this form."""

    error: str
    message: str
    hint: str
    trace_id: str
