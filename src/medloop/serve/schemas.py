"""What goes over the wire."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from medloop.case import Prediction

MOST_RECORDS = 10_000
MOST_COLUMNS = 10_000

Text = Annotated[str, Field(max_length=10_000)]
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

    @classmethod
    def of(cls, prediction: Prediction) -> PredictionBody:
        """The answer as it is sent."""
        return cls.model_validate(prediction, from_attributes=True)


class PredictionsBody(BaseModel):
    """The answers, in the order of the records."""

    predictions: list[PredictionBody]


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
    columns: list[ColumnBody]
    data_version: str
    edition: str
    created: str


class HealthBody(BaseModel):
    """Alive, or able to answer."""

    status: str


class ErrorBody(BaseModel):
    """Every error has this form."""

    error: str
    message: str
    hint: str
    trace_id: str
