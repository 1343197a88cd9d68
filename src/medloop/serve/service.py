"""The parts of one process, and how an input becomes an answer that was written down before it leaves."""

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
from medloop.registry.store import ModelStore
from medloop.serve.access import Access, Bucket
from medloop.serve.answering import MOST_PICTURES, Answering, Asker
from medloop.serve.answers import Answer
from medloop.serve.bodies import Bodies
from medloop.serve.champion import Serving
from medloop.serve.engine import Engine
from medloop.serve.measures import Measures
from medloop.serve.oidc import Tokens
from medloop.serve.patients import PatientAnswering, PatientAnswers
from medloop.serve.shadow_report import figures_of, file_of
from medloop.serve.uploads import Upload
from medloop.settings import Settings

if TYPE_CHECKING:
    from medloop.feedback.store import Feedback

log = logging.getLogger("medloop.serve")

# Refusals that the journal takes: so many at once, then so many a second; whoever tries keys must not fill it.
MAX_NOTES, NOTES_A_SECOND = 100.0, 1.0


class Service:
    """`serving` is replaced as a whole when another version is taken."""

    def __init__(
        self,
        settings: Settings,
        *,
        root: Path,
        serving: Serving | None,
        feedback: Feedback,
        store: ModelStore | None = None,
    ) -> None:
        limits = settings.serve
        self.settings, self.root, self.feedback, self.store = settings, root, feedback, store
        self.measures = Measures()
        self.engine = Engine(threads=limits.threads, queue=limits.queue)
        self.answering = Answering(self.engine, feedback, keep=settings.feedback.keep_inputs)
        key = settings.patient_key.get_secret_value().encode() if settings.patient_key else feedback.patient_key
        self.bodies = Bodies(most_mib=limits.max_body_mib, all_mib=limits.max_bodies_mib, seconds=limits.body_seconds)
        self.patients = PatientAnswering(
            self.engine, feedback, self.bodies, key=key, keep=settings.feedback.keep_inputs
        )
        self.access = Access(
            feedback.keys if limits.auth else None,
            tokens=Tokens(limits.oidc) if limits.auth and limits.oidc else None,
            rate=limits.rate_limit / limits.workers,
            wrong_rate=limits.wrong_key_limit / limits.workers,
            refused=self._note_refusal,
        )
        self._notes = Bucket(NOTES_A_SECOND, size=MAX_NOTES)
        self._serving: Serving | None = None
        if serving:
            self.take(serving)

    @property
    def serving(self) -> Serving:
        """What answers, or an error that says that nothing does."""
        if self._serving is None:
            raise no_model()
        return self._serving

    def take(self, serving: Serving) -> None:
        """Lets this version answer from now on; requests under way keep theirs."""
        self._serving, predictor = serving, serving.predictor
        self.measures.show_model(name=predictor.meta["name"], version=predictor.version, bundle=predictor.hash)

    def check(self) -> None:
        """Raises what stands in the way of an answer, before the body is read."""
        self.engine.check()
        if self._serving is None:
            raise no_model()

    async def predict_files(self, files: Sequence[Upload], asker: Asker) -> list[Prediction | RejectedInput]:
        """One answer a file, in order; a file that cannot be used gets its reason and the others go on."""
        serving = self.serving
        if not serving.predictor.is_image:
            raise RejectedInput("this model takes records", found="files", hint="GET /v1/model lists the columns")
        # No more of them wait at a time than the threads take at once, so that other requests come in between.
        room = asyncio.Semaphore(MOST_PICTURES * self.engine.threads)

        async def ask(file: Upload) -> Prediction | RejectedInput:
            async with room:
                try:
                    answer = await self.answering.file(serving, file.data, asker, alone=len(files) == 1)
                except RejectedInput as error:
                    self.measures.count_rejected()
                    return error
            return self._leave(answer)

        with self.engine.place():
            return [await ask(files[0])] if len(files) == 1 else list(await asyncio.gather(*map(ask, files)))

    async def predict_patients(
        self, predictor: Predictor, files: Sequence[Upload], asker: Asker, *, one: bool = False
    ) -> PatientAnswers:
        """One answer a patient, from all files of each; where one of them cannot be used, the patient gets none.

        Asked for `one`, it answers nothing where there is anything but one patient whose files are all sound.
        """
        with self.engine.place():
            found = await self.patients.answer(predictor, files, asker, one=one)
        for _ in found.rejected:
            self.measures.count_rejected()
        for given in found.answers:
            self._leave(given.answer)
        return found

    async def predict_rows(self, rows: Sequence[Row], places: Sequence[str], asker: Asker) -> list[Prediction]:
        """One answer a row, in order, or an error that says where."""
        predictor = self.serving.predictor
        if predictor.is_image:
            raise RejectedInput("this model takes images", found="records", hint='send files, or {"image": base64}')
        with self.engine.place():
            return [self._leave(answer) for answer in await self.answering.rows(predictor, rows, places, asker)]

    def note(self, kind: str, content: dict[str, str]) -> None:
        """Writes an event into the journal; where there is no room it goes unwritten, for nobody waits for it."""
        try:
            self.feedback.note(kind, content)
        except FeedbackAway:
            log.warning("an event was not written down", extra={"kind": kind})

    def metrics(self) -> bytes:
        """The figures, for Prometheus."""
        self.measures.show_shadow(figures_of(file_of(self.settings, self.root)))
        self.show()
        return self.measures.text()

    def show(self) -> None:
        """Tells the figures how it stands now."""
        self.measures.show(in_flight=self.engine.requests, feedback=self.feedback.status())

    def close(self) -> None:
        """Ends what was started, once nothing is under way any more."""
        self.engine.close()
        self.feedback.close()

    def _leave(self, answer: Answer) -> Prediction:
        self.measures.count_answer(answer, store_seconds=time.perf_counter() - answer.ready)
        return answer.prediction

    def _note_refusal(self, status: str, key: str, route: str) -> None:
        if self._notes.take():
            self.note("refusal", {"status": status, "key": key, "route": route})


def no_model() -> BrokenBundle:
    """The error of a service that has nothing to answer with."""
    return BrokenBundle("a model must be loaded", found="none", hint="promote one: `medloop models promote N`")
