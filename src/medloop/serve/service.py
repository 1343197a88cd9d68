"""The parts of one process, and the way from an input to a prediction that is stored before it is returned."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from medloop.bundle.predictor import Predictor
from medloop.case import Prediction, Row
from medloop.errors import BrokenBundle, RejectedInput
from medloop.feedback import FeedbackAway
from medloop.registry.follow import LoadedModel
from medloop.registry.store import ModelStore
from medloop.serve.http.access import Access, Bucket
from medloop.serve.http.bodies import Bodies
from medloop.serve.http.oidc import Tokens
from medloop.serve.http.uploads import Upload
from medloop.serve.inference.engine import Engine
from medloop.serve.inference.inference_service import MAX_IMAGE_BATCH, Caller, InferenceService
from medloop.serve.inference.patients import PatientInference, PatientResults
from medloop.serve.inference.predict import InferenceResult
from medloop.serve.shadow.report import read_shadow_metrics, report_path
from medloop.serve.telemetry.metrics import Metrics
from medloop.settings import Settings

if TYPE_CHECKING:
    from medloop.feedback.store import Feedback

log = logging.getLogger("medloop.serve")

# Refused requests that the journal records: at first this many, then this many a second, so that nobody can fill it.
MAX_RECORDED_REFUSALS, RECORDED_REFUSALS_A_SECOND = 100.0, 1.0


class Service:
    """Everything that the routes of one process share."""

    def __init__(
        self,
        settings: Settings,
        *,
        root: Path,
        serving: LoadedModel | None,
        feedback: Feedback,
        store: ModelStore | None = None,
    ) -> None:
        limits = settings.serve
        self.settings, self.root, self.feedback, self.store = settings, root, feedback, store
        self.metrics = Metrics()
        self.engine = Engine(threads=limits.threads, queue=limits.queue)
        self.inference = InferenceService(self.engine, feedback, keep=settings.feedback.keep_inputs)
        key = settings.patient_key.get_secret_value().encode() if settings.patient_key else feedback.patient_key
        self.bodies = Bodies(
            max_mib=limits.max_body_mib, max_total_mib=limits.max_bodies_mib, seconds=limits.body_seconds
        )
        self.patients = PatientInference(
            self.engine, feedback, self.bodies, key=key, keep=settings.feedback.keep_inputs
        )
        self.access = Access(
            feedback.keys if limits.auth else None,
            tokens=Tokens(limits.oidc) if limits.auth and limits.oidc else None,
            rate=limits.rate_limit / limits.workers,
            wrong_rate=limits.wrong_key_limit / limits.workers,
            on_refusal=self._record_refusal,
        )
        self._refusals = Bucket(RECORDED_REFUSALS_A_SECOND, size=MAX_RECORDED_REFUSALS)
        self._serving: LoadedModel | None = None
        if serving:
            self.activate(serving)

    @property
    def serving(self) -> LoadedModel:
        """Return the active model, or raise an error where there is none."""
        if self._serving is None:
            raise no_model()
        return self._serving

    def activate(self, model: LoadedModel) -> None:
        """Use this model for all further requests; those in flight keep the previous one."""
        self._serving, predictor = model, model.predictor
        self.metrics.set_model_info(name=predictor.meta["name"], version=predictor.version, bundle=predictor.hash)

    def check(self) -> None:
        """Raise the reason why no prediction is possible now, before a body is read."""
        self.engine.check()
        if self._serving is None:
            raise no_model()

    async def predict_files(self, files: Sequence[Upload], caller: Caller) -> list[Prediction | RejectedInput]:
        """Return one prediction per file, in order, or the reason why the file cannot be used."""
        model = self.serving
        if not model.predictor.is_image:
            raise RejectedInput("This model takes records, not files.", "GET /v1/model lists the columns.")
        # Only as many of them wait at a time as the threads process at once, so that other requests get their turn.
        room = asyncio.Semaphore(MAX_IMAGE_BATCH * self.engine.threads)

        async def predict(file: Upload) -> Prediction | RejectedInput:
            async with room:
                try:
                    result = await self.inference.predict_image(model, file.data, caller, alone=len(files) == 1)
                except RejectedInput as error:
                    self.metrics.count_rejected()
                    return error
            return self._count(result)

        with self.engine.place():
            return list(await asyncio.gather(*map(predict, files)))

    async def predict_patients(
        self, predictor: Predictor, files: Sequence[Upload], caller: Caller, *, single: bool = False
    ) -> PatientResults:
        """Return one result per patient, from all files of each; a patient with a rejected file gets none.

        With `single`, predict nothing unless all files are usable and belong to one patient.
        """
        with self.engine.place():
            found = await self.patients.predict(predictor, files, caller, single=single)
        for _ in found.rejected:
            self.metrics.count_rejected()
        for patient in found.results:
            self._count(patient.result)
        return found

    async def predict_rows(self, rows: Sequence[Row], places: Sequence[str], caller: Caller) -> list[Prediction]:
        """Return one prediction per row, in order, or raise an error that names the place of a row."""
        predictor = self.serving.predictor
        if predictor.is_image:
            raise RejectedInput("This model takes images, not records.", 'Send files, or {"image": base64}.')
        with self.engine.place():
            return [
                self._count(result) for result in await self.inference.predict_rows(predictor, rows, places, caller)
            ]

    def note(self, kind: str, content: dict[str, str]) -> None:
        """Record an event in the journal without waiting; it is dropped while the journal cannot take it."""
        try:
            self.feedback.note(kind, content)
        except FeedbackAway:
            log.warning("event not recorded in the journal", extra={"kind": kind})

    def metrics_text(self) -> bytes:
        """Return the metrics in the format of Prometheus."""
        self.metrics.set_shadow(read_shadow_metrics(report_path(self.settings, self.root)))
        self.update_gauges()
        return self.metrics.text()

    def update_gauges(self) -> None:
        """Set the gauges to the current state."""
        self.metrics.set_gauges(in_flight=self.engine.requests, feedback=self.feedback.status())

    def close(self) -> None:
        """Stop the threads and the feedback store; no request may be in flight any more."""
        self.engine.close()
        self.feedback.close()

    def _count(self, result: InferenceResult) -> Prediction:
        steps = {
            "decode": result.decode_seconds,
            "infer": result.infer_seconds,
            "store": time.perf_counter() - result.ready,
        }
        self.metrics.count_prediction(result.prediction, steps)
        return result.prediction

    def _record_refusal(self, status: str, key: str, route: str) -> None:
        if self._refusals.take():
            self.note("refusal", {"status": status, "key": key, "route": route})


def no_model() -> BrokenBundle:
    """Return the error of a service without a model."""
    return BrokenBundle("No model is loaded.", "Promote one: `medloop models promote N`.")
