"""The service over HTTP, typed; the web page and the tests ask through it."""

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

AGAIN = (429, 503)
LONGEST_WAIT = 10.0

Stored = Literal["monitor", "audit", "shadow"]


class ServiceError(UserError):
    """What the service refused, in its own words; the trace id finds it in the service's log."""

    def __init__(self, status: int, body: Mapping[str, Any]) -> None:
        message, _, found = str(body.get("message", "")).partition("; found: ")
        super().__init__(message, found=found or f"status {status}", hint=str(body.get("hint", "")))
        self.http_status, self.kind, self.trace_id = status, body.get("error", ""), body.get("trace_id", "")


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """A file that could not be used, and why."""

    file: str
    number: int
    message: str
    hint: str


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The answers for many files, by the names of the files or patients, and the files that got none."""

    predictions: tuple[tuple[str, Prediction], ...]
    rejected: tuple[Rejected, ...]


class Client:
    """One service; what is busy or cannot be reached is asked again a few times."""

    def __init__(self, address: str, *, key: str = "", retries: int = 3, timeout: float = 60.0) -> None:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=address, headers=headers, timeout=timeout)
        self._retries = retries

    def predict_files(self, files: Mapping[str, bytes]) -> Answers:
        """One answer a file; the keys are names that come back.

        Where the model decides per patient, the files are DICOM, and each carries the answer of its patient.
        """
        parts = [("files", (name, data)) for name, data in files.items()]
        if len(parts) == 1:
            ((name, data),) = files.items()
            body = self._json("POST", "/predict", files={"file": (name, data)})
            return Answers(predictions=((name, _prediction(body)),), rejected=())
        body = self._json("POST", "/v1/predictions", files=parts)
        answers = tuple((name, _prediction(one)) for one in body["predictions"] for name in _names(one))
        return Answers(predictions=answers, rejected=tuple(Rejected(**one) for one in body["rejected"]))

    def predict_patients(self, patients: Mapping[str, Mapping[str, bytes]]) -> Answers:
        """One answer a patient, from all files of each; the keys, which come back, name patients and then files.

        The service keeps no more than a keyed hash of a patient's name.
        """
        sent = [(patient, name, data) for patient, files in patients.items() for name, data in files.items()]
        parts = [("files", (name, data)) for _, name, data in sent]
        body = self._json("POST", "/v1/predictions", files=parts, data={"patient": [patient for patient, _, _ in sent]})
        answers = tuple((sent[one["slices"][0]["number"]][0], _prediction(one)) for one in body["predictions"])
        return Answers(predictions=answers, rejected=tuple(Rejected(**one) for one in body["rejected"]))

    def predict_rows(self, rows: Sequence[Row]) -> list[Prediction]:
        """One answer a row."""
        body = self._json("POST", "/v1/predictions", json={"records": list(rows)})
        return [_prediction(one) for one in body["predictions"]]

    def prediction(self, prediction_id: str) -> Prediction:
        """An answer that was given."""
        return _prediction(self._json("GET", f"/v1/predictions/{prediction_id}"))

    def input_png(self, prediction_id: str, *, slice_number: int = 0) -> bytes:
        """The picture that was judged, or one of a patient's slices."""
        return self._ask("GET", f"/v1/predictions/{prediction_id}/input.png", params={"slice": slice_number}).content

    def heatmap_png(self, prediction_id: str, *, slice_number: int = 0) -> bytes:
        """The picture, or one of a patient's slices, with what spoke for the class in colour."""
        return self._ask("GET", f"/v1/predictions/{prediction_id}/heatmap.png", params={"slice": slice_number}).content

    def correct(self, prediction_id: str, *, label: str, reason: str, once: str | None = None) -> Correction:
        """Say that an answer was wrong; asked again it stays one correction."""
        body = {"prediction_id": prediction_id, "label": label, "reason": reason}
        headers = {"Idempotency-Key": once or uuid.uuid4().hex}
        return Correction(**self._json("POST", "/v1/corrections", json=body, headers=headers))

    def corrections(self, *, state: str | None = None, limit: int = 100, after: str | None = None) -> list[Correction]:
        """Corrections, oldest first."""
        given = {"state": state, "limit": limit, "after": after}
        params = {name: value for name, value in given.items() if value is not None}
        return [Correction(**one) for one in self._json("GET", "/v1/corrections", params=params)["corrections"]]

    def review(self, correction_id: str, decision: str, *, reason: str = "") -> Correction:
        """Decide on somebody else's correction."""
        body = {"decision": decision, "reason": reason}
        return Correction(**self._json("POST", f"/v1/corrections/{correction_id}/review", json=body))

    def model(self) -> dict[str, Any]:
        """What serves, and what it wants."""
        return self._json("GET", "/v1/model")

    def versions(self) -> list[dict[str, Any]]:
        """Every registered version."""
        found: list[dict[str, Any]] = self._json("GET", "/v1/models")["versions"]
        return found

    def report(self, number: int) -> dict[str, Any]:
        """What a version scored."""
        return self._json("GET", f"/v1/models/{number}/report")

    def card(self, number: int) -> str:
        """What a version is for, in words."""
        return self._ask("GET", f"/v1/models/{number}/card").text

    def verdict(self, number: int) -> dict[str, Any]:
        """What the gate said of a version."""
        return self._json("GET", f"/v1/models/{number}/verdict")

    def promote(self, number: int) -> dict[str, Any]:
        """Let a version serve."""
        return self._json("POST", f"/v1/models/{number}/promote")

    def rollback(self) -> dict[str, Any]:
        """Let the version serve that served before."""
        return self._json("POST", "/v1/models/rollback")

    def stored(self, what: Stored) -> dict[str, Any]:
        """What was last worked out by the monitoring, the audit or the shadow."""
        return self._json("GET", f"/v1/{what}")

    def is_ready(self) -> bool:
        """Whether the service can answer."""
        try:
            return self._http.get("/readyz").status_code == httpx.codes.OK
        except httpx.TransportError:
            return False

    def close(self) -> None:
        """Give up the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _json(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        body: dict[str, Any] = self._ask(method, path, **options).json()
        return body

    def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        for left in range(self._retries, -1, -1):
            try:
                answer = self._http.request(method, path, **options)
            except httpx.ConnectError as error:
                if not left:
                    raise _away() from error
                time.sleep(0.2 * (self._retries - left + 1))
                continue
            except httpx.TransportError as error:
                # It may have been done already, so it is not asked again.
                raise _away() from error
            if answer.status_code not in AGAIN or not left:
                break
            time.sleep(_wait(answer))
        if answer.is_success:
            return answer
        raise ServiceError(answer.status_code, _told(answer))


def _prediction(body: Mapping[str, Any]) -> Prediction:
    known = {one.name: body[one.name] for one in fields(Prediction)}
    return Prediction(**{**known, "conformal_set": tuple(known["conformal_set"])})


def _names(body: Mapping[str, Any]) -> list[str]:
    """The files that an answer rests on."""
    return [body["file"]] if "file" in body else list(dict.fromkeys(one["file"] for one in body["slices"]))


def _wait(answer: httpx.Response) -> float:
    told = answer.headers.get("retry-after", "1")
    return min(float(told), LONGEST_WAIT) if told.isdigit() else 1.0


def _told(answer: httpx.Response) -> dict[str, Any]:
    try:
        body = answer.json()
    except ValueError:
        body = None
    return body if isinstance(body, dict) else {"message": "the service must answer in its own form"}


def _away() -> UserError:
    return UserError("the service must answer", found="no connection, or one that broke off", hint="is it running?")
