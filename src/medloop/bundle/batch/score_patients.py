"""Batch scoring for bundles that decide per patient: one prediction per patient, from all of its slices."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from medloop.bundle.batch.names import FileNames
from medloop.bundle.batch.ownership import PatientFinder
from medloop.bundle.inputs import Picture
from medloop.bundle.predictor import Predictor, Scores, needs_patients
from medloop.case import Prediction
from medloop.decode.raster import each_frame
from medloop.decode.sniff import sniff
from medloop.errors import RejectedInput
from medloop.progress import track
from medloop.storage.names import visible

IMAGES_PER_BATCH = 32
Read = Callable[[str], bytes | RejectedInput]
Outcome = tuple[str | None, Sequence[str], Prediction | RejectedInput]


@dataclass(frozen=True, kw_only=True)
class PatientFiles:
    """The files of each patient, in the order in which they first appear, and files that are not images."""

    patients: dict[str, list[str]] = field(default_factory=dict)
    rejected: dict[str, RejectedInput] = field(default_factory=dict)
    refused: dict[str, RejectedInput] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """A text that differs if any file has another patient. It contains patients' names, so it is only hashed."""
        return json.dumps([list(self.patients.items()), list(self.rejected), list(self.refused)])


def group_by_patient(predictor: Predictor, files: FileNames, finder: PatientFinder, read: Read) -> PatientFiles:
    """Group the files by patient; raise for images without a patient before anything is scored."""
    found, unassigned, uris = PatientFiles(), list[str](), list(files.ids)
    for uri in track(uris, total=len(uris), what="patients"):
        patient = finder.find(uri)
        if patient is None:
            try:
                patient = _by_header(predictor, uri, finder, read)
            except RejectedInput as error:
                found.rejected[uri] = error
                continue
        if patient is None:
            unassigned.append(uri)
        else:
            found.patients.setdefault(patient, []).append(uri)
    if unassigned:
        example = f", such as {files.message_label(unassigned[0])}"
        raise needs_patients(len(unassigned), hint=finder.hint, example=example)
    for patient, missing in finder.missing(uris).items():
        found.refused[patient] = RejectedInput(
            f"{len(missing)} of the patient's slices in the list are not among the files"
            + (f", such as {visible(missing[0])}." if files.show else "."),
            "Add them to the command, or remove them from the list.",
        )
    return found


def _by_header(predictor: Predictor, uri: str, finder: PatientFinder, read: Read) -> str | None:
    data = read(uri)
    if isinstance(data, RejectedInput):
        raise data
    if sniff(data) != "dicom" or not finder.uses_headers:
        return None
    return predictor.frames(data, patient_key=finder.key).pictures[0].whose


def score_patients(
    predictor: Predictor, files: FileNames, found: PatientFiles, read: Read, *, skip: int = 0
) -> Iterator[Outcome]:
    """Yield patient, files and prediction or rejection, skipping the first `skip` of these."""
    yield from [(None, [uri], error) for uri, error in found.rejected.items()][skip:]
    waiting = list(found.patients.items())[max(0, skip - len(found.rejected)) :]
    for patient, uris in track(waiting, total=len(waiting), what="patients"):
        yield patient, uris, found.refused.get(patient) or _score(predictor, files, uris, read)


def _score(predictor: Predictor, files: FileNames, uris: Sequence[str], read: Read) -> Prediction | RejectedInput:
    """Score a patient from all slices, or not at all."""
    started = time.perf_counter()
    parts, pictures = list[Scores](), list[Picture]()
    for uri in uris:
        try:
            pictures += _pictures(predictor, read(uri))
        except RejectedInput as error:
            return RejectedInput(f"{files.label(uri)}: {error.problem}", error.hint)
        while len(pictures) >= IMAGES_PER_BATCH:
            parts.append(predictor.score(pictures[:IMAGES_PER_BATCH]))
            pictures = pictures[IMAGES_PER_BATCH:]
    if pictures:
        parts.append(predictor.score(pictures))
    scores = Scores.joined(parts)
    (prediction,) = predictor.decide(scores, [0] * len(scores.complaints), started=started)
    return prediction


def _pictures(predictor: Predictor, data: bytes | RejectedInput) -> list[Picture]:
    if isinstance(data, RejectedInput):
        raise data
    return [predictor.fit(decoded) for decoded in each_frame(lambda start: predictor.frames(data, start=start))]
