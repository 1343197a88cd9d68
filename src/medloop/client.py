"""A typed HTTP client of the service."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from types import TracebackType
from typing import Any, Literal, Self

import httpx

from medloop.case import Correction, Prediction, Row
from medloop.errors import UserError

RETRIED_STATUSES = (429, 503)
MAX_WAIT_SECONDS = 10.0

StoredResult = Literal["monitor", "audit", "shadow"]


class ServiceError(UserError):
    """An error response of the service; the trace id is also in its log."""

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        super().__init__(str(body.get("message", "")), str(body.get("hint", "")))
        self.http_status, self.kind, self.trace_id = status, body.get("error", ""), body.get("trace_id", "")


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """A file that could not be used, and the reason."""

    file: str
    number: int
    message: str
    hint: str


@dataclass(frozen=True, kw_only=True)
class FilePredictions:
    """The predictions with the names of their files or patients, and the files that could not be used."""

    predictions: tuple[tuple[str, Prediction], ...]
    rejected: tuple[Rejected, ...]


class Client:
    """A client of one service; it retries a few times if the service is busy or cannot be reached."""

    def __init__(
        self,
        address: str,
        *,
        key: str = "",
        retries: int = 3,
        timeout: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """`transport` replaces the network, for instance in tests."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=address, headers=headers, timeout=timeout, transport=transport)
        self._retries = retries

    def predict_files(self, files: Mapping[str, bytes]) -> FilePredictions:
        """Predict files by name.

        If the model decides per patient, the files must be DICOM, and each has the prediction of its patient.
        """
        parts = [("files", (name, data)) for name, data in files.items()]
        if len(parts) == 1:
            ((name, data),) = files.items()
            body = self._json("POST", "/predict", files={"file": (name, data)})
            return FilePredictions(predictions=((name, _prediction(body)),), rejected=())
        body = self._json("POST", "/v1/predictions", files=parts)
        predictions = tuple((name, _prediction(one)) for one in body["predictions"] for name in _file_names(one))
        return FilePredictions(predictions=predictions, rejected=tuple(Rejected(**one) for one in body["rejected"]))

    def predict_patients(self, patients: Mapping[str, Mapping[str, bytes]]) -> FilePredictions:
        """Predict patients from all files of each; the keys are names of patients, then of files.

        The service stores only a keyed hash of the name of a patient.
        """
        sent = [(patient, name, data) for patient, files in patients.items() for name, data in files.items()]
        parts = [("files", (name, data)) for _, name, data in sent]
        body = self._json("POST", "/v1/predictions", files=parts, data={"patient": [patient for patient, _, _ in sent]})
        predictions = tuple((sent[one["slices"][0]["number"]][0], _prediction(one)) for one in body["predictions"])
        return FilePredictions(predictions=predictions, rejected=tuple(Rejected(**one) for one in body["rejected"]))

    def predict_rows(self, rows: Sequence[Row]) -> list[Prediction]:
        """Return one prediction per row."""
        body = self._json("POST", "/v1/predictions", json={"records": list(rows)})
        return [_prediction(one) for one in body["predictions"]]

    def prediction(self, prediction_id: str) -> Prediction:
        """Return a stored prediction."""
        return _prediction(self._json("GET", f"/v1/predictions/{prediction_id}"))

    def input_png(self, prediction_id: str, *, slice_number: int = 0) -> bytes:
        """Return the image of a prediction, or one of a patient's slices."""
        return self._send("GET", f"/v1/predictions/{prediction_id}/input.png", params={"slice": slice_number}).content

    def heatmap_png(self, prediction_id: str, *, slice_number: int = 0) -> bytes:
        """Return the image, or one of a patient's slices, with a heatmap of the evidence for the class."""
        return self._send("GET", f"/v1/predictions/{prediction_id}/heatmap.png", params={"slice": slice_number}).content

    def correct(self, prediction_id: str, *, label: str, reason: str, idempotency_key: str | None = None) -> Correction:
        """Report a wrong prediction; requests with the same key make one correction."""
        body = {"prediction_id": prediction_id, "label": label, "reason": reason}
        headers = {"Idempotency-Key": idempotency_key or uuid.uuid4().hex}
        return Correction(**self._json("POST", "/v1/corrections", json=body, headers=headers))

    def corrections(self, *, state: str | None = None, limit: int = 100, after: str | None = None) -> list[Correction]:
        """Return corrections, oldest first."""
        options = {"state": state, "limit": limit, "after": after}
        params = {name: value for name, value in options.items() if value is not None}
        return [Correction(**one) for one in self._json("GET", "/v1/corrections", params=params)["corrections"]]

    def review(self, correction_id: str, decision: str, *, reason: str = "") -> Correction:
        """Decide on a correction that another person reported."""
        body = {"decision": decision, "reason": reason}
        return Correction(**self._json("POST", f"/v1/corrections/{correction_id}/review", json=body))

    def model(self) -> dict[str, Any]:
        """Describe the active version and its inputs."""
        return self._json("GET", "/v1/model")

    def versions(self) -> list[dict[str, Any]]:
        """Return the registered versions."""
        found: list[dict[str, Any]] = self._json("GET", "/v1/models")["versions"]
        return found

    def report(self, number: int) -> dict[str, Any]:
        """Return the evaluation report of a version."""
        return self._json("GET", f"/v1/models/{number}/report")

    def card(self, number: int) -> str:
        """Return the model card of a version."""
        return self._send("GET", f"/v1/models/{number}/card").text

    def verdict(self, number: int) -> dict[str, Any]:
        """Return the verdict of the gate on a version."""
        return self._json("GET", f"/v1/models/{number}/verdict")

    def promote(self, number: int) -> dict[str, Any]:
        """Promote a version that passed the gate."""
        return self._json("POST", f"/v1/models/{number}/promote")

    def rollback(self) -> dict[str, Any]:
        """Promote the previous champion again."""
        return self._json("POST", "/v1/models/rollback")

    def stored(self, name: StoredResult) -> dict[str, Any]:
        """Return the last results of the monitoring, the audit or the shadow."""
        return self._json("GET", f"/v1/{name}")

    def is_ready(self) -> bool:
        """Return whether the service can predict."""
        try:
            return self._http.get("/readyz").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _json(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        body: dict[str, Any] = self._send(method, path, **options).json()
        return body

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        for left in range(self._retries, -1, -1):
            try:
                response = self._http.request(method, path, **options)
            except httpx.ConnectError as error:
                if not left:
                    raise self._unreachable(error) from error
                time.sleep(0.2 * (self._retries - left + 1))
                continue
            except httpx.TransportError as error:
                # The service may have done it already, so this is not retried.
                raise self._unreachable(error) from error
            if response.status_code not in RETRIED_STATUSES or not left:
                break
            time.sleep(_retry_after(response))
        if response.is_success:
            return response
        raise ServiceError(response.status_code, _error_body(response))

    def _unreachable(self, error: httpx.TransportError) -> UserError:
        address = str(self._http.base_url).rstrip("/")
        return UserError(f"Could not reach the service at {address} ({error}).", "Is it running?")


def _prediction(body: Mapping[str, Any]) -> Prediction:
    known = {one.name: body[one.name] for one in fields(Prediction)}
    return Prediction(**{**known, "conformal_set": tuple(known["conformal_set"])})


def _file_names(body: Mapping[str, Any]) -> list[str]:
    """Return the names of the files that a prediction is based on."""
    return [body["file"]] if "file" in body else list(dict.fromkeys(one["file"] for one in body["slices"]))


def _retry_after(response: httpx.Response) -> float:
    value = response.headers.get("retry-after", "1")
    return min(float(value), MAX_WAIT_SECONDS) if value.isdigit() else 1.0


def _error_body(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        body = None
    return (
        body
        if isinstance(body, dict)
        else {
            "message": f"The response is not from medloop (status {response.status_code}).",
            "hint": "Check the address, and any proxy in front of the service.",
        }
    )
