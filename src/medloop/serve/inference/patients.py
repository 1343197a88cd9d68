"""Predictions for patients: slices are decoded and scored a few at a time and combined into one prediction."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from medloop.bundle.inputs import Picture, keepable_png
from medloop.bundle.patients import pseudonym
from medloop.bundle.predictor import Predictor, Scores, needs_patients
from medloop.errors import RejectedInput
from medloop.feedback import Answered, Slice
from medloop.serve.http.bodies import Bodies, Share
from medloop.serve.http.uploads import Upload
from medloop.serve.inference.engine import Engine
from medloop.serve.inference.inference_service import MAX_IMAGE_BATCH, Caller
from medloop.serve.inference.predict import InferenceResult
from medloop.storage import sha256_bytes

if TYPE_CHECKING:
    from medloop.feedback.store import Feedback

HOW_TO_NAME = "Send the field `patient` once for all files, or once per file; a DICOM file may name its own patient."


@dataclass(frozen=True, kw_only=True)
class Place:
    """The position of a slice in its request: the number of its file, and of the frame within that."""

    file: int
    frame: int


@dataclass(frozen=True, kw_only=True)
class PatientResult:
    """The result for one patient, the keyed hash of the patient, the slices, and the most influential one."""

    result: InferenceResult
    patient: str
    slices: tuple[Place, ...]
    leading: int


@dataclass(frozen=True, kw_only=True)
class PatientResults:
    """The results for the files of a request, and the rejected files by number.

    `patients` is the number of patients none of whose files was rejected.
    """

    results: Sequence[PatientResult]
    patients: int
    rejected: dict[int, RejectedInput]


@dataclass(frozen=True, kw_only=True)
class _Decoded:
    place: Place
    picture: Picture
    kept: Slice
    patient: str | None
    seconds: float

    @property
    def size(self) -> int:
        """Return the bytes that it holds in memory, without those of its file."""
        return self.picture.pixels.nbytes + len(self.kept.png or b"")


class PatientInference:
    """Groups the slices of a request by patient; the work is done in pieces, so that other requests run in between."""

    def __init__(self, engine: Engine, feedback: Feedback, bodies: Bodies, *, key: bytes, keep: bool) -> None:
        self._engine, self._feedback, self._bodies, self._key, self._keep = engine, feedback, bodies, key, keep

    async def predict(
        self, predictor: Predictor, files: Sequence[Upload], caller: Caller, *, single: bool
    ) -> PatientResults:
        """Return one result per patient, in the order in which they first appear, once they are stored.

        With `single`, predict nothing unless all files are usable and belong to one patient.
        """
        # Images that will be stored are held until the prediction is stored.
        with self._bodies.share() as share:
            return await self._predict(predictor, files, caller, share, single=single)

    async def _predict(
        self, predictor: Predictor, files: Sequence[Upload], caller: Caller, share: Share, *, single: bool
    ) -> PatientResults:
        room = asyncio.Semaphore(MAX_IMAGE_BATCH * self._engine.threads)
        decoding = (self._decode_file(predictor, number, file, room, share) for number, file in enumerate(files))
        slices, rejected = self._by_patient(files, await asyncio.gather(*decoding))
        if single and (rejected or len(slices) != 1):
            return PatientResults(results=(), patients=len(slices), rejected=rejected)
        results = await asyncio.gather(
            *(self._predict_patient(predictor, patient, some, caller, room) for patient, some in slices.items())
        )
        return PatientResults(results=results, patients=len(slices), rejected=rejected)

    async def _decode_file(
        self, predictor: Predictor, number: int, file: Upload, room: asyncio.Semaphore, share: Share
    ) -> list[_Decoded] | RejectedInput:
        """Return the frames of a file, or why it cannot be used."""
        frames: list[_Decoded] = []
        total = 1
        try:
            while len(frames) < total:
                async with room:
                    place = Place(file=number, frame=len(frames))
                    decode = partial(_decode_frames, predictor, file.data, place, key=self._key, keep=self._keep)
                    some, total = await self._engine.run(decode)
                share.hold(sum(one.size for one in some))
                frames += some
        except RejectedInput as error:
            return error
        return frames

    def _by_patient(
        self, files: Sequence[Upload], decoded: Sequence[list[_Decoded] | RejectedInput]
    ) -> tuple[dict[str, list[_Decoded]], dict[int, RejectedInput]]:
        """Return the slices of each patient, without the patients of whom some slice is rejected."""
        named = [pseudonym(file.patient, self._key) for file in files]
        rejected = {number: one for number, one in enumerate(decoded) if isinstance(one, RejectedInput)}
        incomplete = {named[number] for number in rejected} - {None}
        slices: dict[str, list[_Decoded]] = {}
        nameless = 0
        for number, some in enumerate(decoded):
            if isinstance(some, RejectedInput):
                continue
            patient = named[number] or some[0].patient
            if patient is None:
                nameless += 1
            elif patient in incomplete:
                rejected[number] = _incomplete()
            else:
                slices.setdefault(patient, []).extend(some)
        if nameless:
            raise needs_patients(nameless, hint=HOW_TO_NAME)
        return slices, dict(sorted(rejected.items()))

    async def _predict_patient(
        self, predictor: Predictor, patient: str, slices: Sequence[_Decoded], caller: Caller, room: asyncio.Semaphore
    ) -> PatientResult:
        parts, seconds = list[Scores](), 0.0
        for start in range(0, len(slices), MAX_IMAGE_BATCH):
            pictures = [one.picture for one in slices[start : start + MAX_IMAGE_BATCH]]
            async with room:
                scores, took = await self._engine.run(partial(_score, predictor, pictures))
            parts.append(scores)
            seconds += took
        result, leading = _combine(predictor, Scores.joined(parts), slices, infer_seconds=seconds)
        answered = Answered(
            prediction=result.prediction,
            kind="image",
            key=caller.key.id,
            trace_id=caller.trace,
            patient=patient,
            slices=[one.kept for one in slices],
        )
        # On a thread, since it writes the images, which takes a while.
        stored = await self._engine.run(lambda: self._feedback.submit([answered], enough=self._engine.surplus))
        await asyncio.wrap_future(stored)
        return PatientResult(result=result, patient=patient, slices=tuple(one.place for one in slices), leading=leading)


def _decode_frames(
    predictor: Predictor, data: bytes, place: Place, *, key: bytes, keep: bool
) -> tuple[list[_Decoded], int]:
    """Return some frames of a file, beginning at this place, and how many frames it has."""
    started = time.perf_counter()
    frames = predictor.frames(data, start=place.frame, patient_key=key)
    pictures = [predictor.fit(decoded) for decoded in frames.pictures]
    each = (time.perf_counter() - started) / len(pictures)
    slices = []
    for number, (decoded, picture) in enumerate(zip(frames.pictures, pictures, strict=True)):
        png = keepable_png(data, decoded) if keep else None
        size = decoded.width, decoded.height
        slices.append(
            _Decoded(
                place=replace(place, frame=place.frame + number),
                picture=picture,
                kept=Slice(png=png, sha256="" if png else sha256_bytes(data), size=size),
                patient=decoded.whose,
                seconds=each,
            )
        )
    return slices, frames.total


def _score(predictor: Predictor, pictures: Sequence[Picture]) -> tuple[Scores, float]:
    started = time.perf_counter()
    return predictor.score(pictures), time.perf_counter() - started


def _combine(
    predictor: Predictor, scores: Scores, slices: Sequence[_Decoded], *, infer_seconds: float
) -> tuple[InferenceResult, int]:
    """Return the result, and the number of the slice with the highest probability of the predicted class."""
    ready = time.perf_counter()
    (prediction,) = predictor.decide(scores, [0] * len(slices), started=ready)
    decode_seconds = sum(one.seconds for one in slices)
    likeliest = prediction.label or max(prediction.probabilities, key=prediction.probabilities.__getitem__)
    leading = int(np.argmax(scores.probabilities[:, predictor.decider.classes.index(likeliest)]))
    result = InferenceResult(
        prediction=replace(prediction, latency_ms=(decode_seconds + infer_seconds) * 1000),
        decode_seconds=decode_seconds,
        infer_seconds=infer_seconds,
        ready=ready,
    )
    return result, leading


def _incomplete() -> RejectedInput:
    return RejectedInput(
        "Another slice of this patient cannot be used, so there is no prediction for the patient.",
        "Send the patient again without that slice or with a readable copy of it.",
    )
