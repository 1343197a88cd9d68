"""Answers for patients: every slice is decoded and scored a few at a time, and all of them become one answer."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from medloop.bundle.inputs import Picture
from medloop.bundle.kept_input import keepable_png
from medloop.bundle.patients import pseudonym
from medloop.bundle.predictor import Predictor, Scores, needs_patients
from medloop.errors import RejectedInput
from medloop.feedback import Answered, Slice
from medloop.serve.answering import MOST_PICTURES, Asker
from medloop.serve.answers import Answer
from medloop.serve.bodies import Bodies, Share
from medloop.serve.engine import Engine
from medloop.serve.uploads import Upload
from medloop.storage import sha256_bytes

if TYPE_CHECKING:
    from medloop.feedback.store import Feedback

SEND = "send the field `patient` once for all files or once for each; a DICOM file may name its patient itself"


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where in its request a slice stands: the number of its file, and of the frame within it."""

    file: int
    frame: int


@dataclass(frozen=True, kw_only=True)
class PatientAnswer:
    """One patient's answer, the keyed hash of the patient, the slices it rests on, and the one that shows most."""

    answer: Answer
    patient: str
    slices: tuple[Place, ...]
    leading: int


@dataclass(frozen=True, kw_only=True)
class PatientAnswers:
    """What became of the files of a request: answers, and by the number of the file what could not be used.

    `patients` are those who are left with all their files.
    """

    answers: Sequence[PatientAnswer]
    patients: int
    rejected: dict[int, RejectedInput]


@dataclass(frozen=True, kw_only=True)
class _Seen:
    place: Place
    picture: Picture
    kept: Slice
    whose: str | None
    seconds: float

    @property
    def size(self) -> int:
        """The bytes that it holds, but for those of its file."""
        return self.picture.pixels.nbytes + len(self.kept.png or b"")


class PatientAnswering:
    """Brings the slices of a request together by their patients; other requests come in between two pieces of work."""

    def __init__(self, engine: Engine, feedback: Feedback, bodies: Bodies, *, key: bytes, keep: bool) -> None:
        self._engine, self._feedback, self._bodies, self._key, self._keep = engine, feedback, bodies, key, keep

    async def answer(self, predictor: Predictor, files: Sequence[Upload], asker: Asker, *, one: bool) -> PatientAnswers:
        """One answer a patient, in the order in which they first appear, once they are durable.

        Asked for `one`, it answers nothing where there is anything but one patient whose files are all sound.
        """
        # The pictures that are to be kept stay until the answer is stored.
        with self._bodies.share() as share:
            return await self._answer(predictor, files, asker, share, one=one)

    async def _answer(
        self, predictor: Predictor, files: Sequence[Upload], asker: Asker, share: Share, *, one: bool
    ) -> PatientAnswers:
        room = asyncio.Semaphore(MOST_PICTURES * self._engine.threads)
        looks = (self._see(predictor, number, file, room, share) for number, file in enumerate(files))
        seen = await asyncio.gather(*looks)
        slices, rejected = self._by_patient(files, seen)
        if one and (rejected or len(slices) != 1):
            return PatientAnswers(answers=(), patients=len(slices), rejected=rejected)
        answers = await asyncio.gather(
            *(self._judge(predictor, patient, some, asker, room) for patient, some in slices.items())
        )
        return PatientAnswers(answers=answers, patients=len(slices), rejected=rejected)

    async def _see(
        self, predictor: Predictor, number: int, file: Upload, room: asyncio.Semaphore, share: Share
    ) -> list[_Seen] | RejectedInput:
        """The pictures of a file, or why it cannot be used."""
        found: list[_Seen] = []
        total = 1
        try:
            while len(found) < total:
                async with room:
                    place = Place(file=number, frame=len(found))
                    look = partial(_look, predictor, file.data, place, key=self._key, keep=self._keep)
                    some, total = await self._engine.run(look)
                share.hold(sum(one.size for one in some))
                found += some
        except RejectedInput as error:
            return error
        return found

    def _by_patient(
        self, files: Sequence[Upload], seen: Sequence[list[_Seen] | RejectedInput]
    ) -> tuple[dict[str, list[_Seen]], dict[int, RejectedInput]]:
        """The slices of each patient, without the patients of whom some slice cannot be used."""
        named = [pseudonym(file.patient, self._key) for file in files]
        rejected = {number: one for number, one in enumerate(seen) if isinstance(one, RejectedInput)}
        incomplete = {named[number] for number in rejected} - {None}
        slices: dict[str, list[_Seen]] = {}
        nameless = 0
        for number, some in enumerate(seen):
            if isinstance(some, RejectedInput):
                continue
            patient = named[number] or some[0].whose
            if patient is None:
                nameless += 1
            elif patient in incomplete:
                rejected[number] = _incomplete()
            else:
                slices.setdefault(patient, []).extend(some)
        if nameless:
            raise needs_patients(nameless, hint=SEND)
        return slices, dict(sorted(rejected.items()))

    async def _judge(
        self, predictor: Predictor, patient: str, slices: Sequence[_Seen], asker: Asker, room: asyncio.Semaphore
    ) -> PatientAnswer:
        parts, seconds = list[Scores](), 0.0
        for start in range(0, len(slices), MOST_PICTURES):
            pictures = [one.picture for one in slices[start : start + MOST_PICTURES]]
            async with room:
                scores, took = await self._engine.run(partial(_score, predictor, pictures))
            parts.append(scores)
            seconds += took
        answer, leading = _answer(predictor, Scores.joined(parts), slices, infer_seconds=seconds)
        answered = Answered(
            prediction=answer.prediction,
            kind="image",
            key=asker.key.id,
            trace_id=asker.trace,
            patient=patient,
            slices=[one.kept for one in slices],
        )
        # Pictures are written there, which takes a while.
        durable = await self._engine.run(lambda: self._feedback.submit([answered], enough=self._engine.spare))
        await asyncio.wrap_future(durable)
        return PatientAnswer(answer=answer, patient=patient, slices=tuple(one.place for one in slices), leading=leading)


def _look(predictor: Predictor, data: bytes, place: Place, *, key: bytes, keep: bool) -> tuple[list[_Seen], int]:
    """Some frames of a file from one on, and how many it has."""
    started = time.perf_counter()
    frames = predictor.frames(data, start=place.frame, patient_key=key)
    pictures = [predictor.fit(decoded) for decoded in frames.pictures]
    each = (time.perf_counter() - started) / len(pictures)
    found = []
    for number, (decoded, picture) in enumerate(zip(frames.pictures, pictures, strict=True)):
        png = keepable_png(data, decoded) if keep else None
        size = decoded.width, decoded.height
        found.append(
            _Seen(
                place=replace(place, frame=place.frame + number),
                picture=picture,
                kept=Slice(png=png, sha256="" if png else sha256_bytes(data), size=size),
                whose=decoded.whose,
                seconds=each,
            )
        )
    return found, frames.total


def _score(predictor: Predictor, pictures: Sequence[Picture]) -> tuple[Scores, float]:
    started = time.perf_counter()
    return predictor.score(pictures), time.perf_counter() - started


def _answer(
    predictor: Predictor, scores: Scores, slices: Sequence[_Seen], *, infer_seconds: float
) -> tuple[Answer, int]:
    """The answer, and the number of the slice that shows most of what is likeliest."""
    ready = time.perf_counter()
    (prediction,) = predictor.decide(scores, [0] * len(slices), started=ready)
    decode_seconds = sum(one.seconds for one in slices)
    likeliest = prediction.label or max(prediction.probabilities, key=prediction.probabilities.__getitem__)
    leading = int(np.argmax(scores.probabilities[:, predictor.decider.classes.index(likeliest)]))
    answer = Answer(
        prediction=replace(prediction, latency_ms=(decode_seconds + infer_seconds) * 1000),
        decode_seconds=decode_seconds,
        infer_seconds=infer_seconds,
        ready=ready,
    )
    return answer, leading


def _incomplete() -> RejectedInput:
    return RejectedInput(
        "a patient is answered from all slices or not at all",
        found="another slice of this patient that cannot be used",
        hint="send the patient again, without that file or with a sound one",
    )
