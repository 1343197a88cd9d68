"""Batch scoring where the bundle decides per patient: one line a patient, from all slices that the files hold."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from medloop.bundle.batch_names import FileNames
from medloop.bundle.inputs import Picture
from medloop.bundle.predictor import Predictor, Scores, needs_patients
from medloop.bundle.whose import Whose
from medloop.case import Prediction
from medloop.errors import RejectedInput
from medloop.prepare.decode import each_frame
from medloop.prepare.header import sniff
from medloop.progress import track
from medloop.storage.names import visible

PICTURES_AT_ONCE = 32
Read = Callable[[str], bytes | RejectedInput]
Answered = tuple[str | None, Sequence[str], Prediction | RejectedInput]


@dataclass(frozen=True, kw_only=True)
class Sorted:
    """The files of each patient, in the order in which they first appear, and those that are no pictures at all."""

    patients: dict[str, list[str]] = field(default_factory=dict)
    rejected: dict[str, RejectedInput] = field(default_factory=dict)
    refused: dict[str, RejectedInput] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Another one where a file is of another patient. It holds the patients' names, and is only to be hashed."""
        return json.dumps([list(self.patients.items()), list(self.rejected), list(self.refused)])


def sort_files(predictor: Predictor, files: FileNames, whose: Whose, read: Read) -> Sorted:
    """Whose each file is; a picture of nobody's is an error, before anything is answered."""
    found, nameless, uris = Sorted(), list[str](), list(files.ids)
    for uri in track(uris, total=len(uris), what="patients"):
        patient = whose.named(uri)
        if patient is None:
            try:
                patient = _by_header(predictor, uri, whose, read)
            except RejectedInput as error:
                found.rejected[uri] = error
                continue
        if patient is None:
            nameless.append(uri)
        else:
            found.patients.setdefault(patient, []).append(uri)
    if nameless:
        refusal = needs_patients(len(nameless), hint=whose.hint)
        raise RejectedInput(
            refusal.must, found=f"{refusal.found}, such as {files.told_user(nameless[0])}", hint=refusal.hint
        )
    for patient, missing in whose.missing(uris).items():
        found.refused[patient] = RejectedInput(
            "all slices that the list gives a patient must be among the files",
            found=f"{len(missing)} that are not" + (f", such as {visible(missing[0])}" if files.show else ""),
            hint="add them to the call, or leave them out of the list",
        )
    return found


def _by_header(predictor: Predictor, uri: str, whose: Whose, read: Read) -> str | None:
    data = read(uri)
    if isinstance(data, RejectedInput):
        raise data
    if sniff(data) != "dicom" or not whose.asks_headers:
        return None
    return predictor.frames(data, patient_key=whose.key).pictures[0].whose


def score_patients(
    predictor: Predictor, files: FileNames, found: Sorted, read: Read, *, skip: int = 0
) -> Iterator[Answered]:
    """The patient, the files and the answer or why there is none; the first `skip` of these are passed over."""
    yield from [(None, [uri], error) for uri, error in found.rejected.items()][skip:]
    waiting = list(found.patients.items())[max(0, skip - len(found.rejected)) :]
    for patient, uris in track(waiting, total=len(waiting), what="patients"):
        yield patient, uris, found.refused.get(patient) or _answer(predictor, files, uris, read)


def _answer(predictor: Predictor, files: FileNames, uris: Sequence[str], read: Read) -> Prediction | RejectedInput:
    """A patient is answered from all slices or not at all."""
    started = time.perf_counter()
    parts, pictures = list[Scores](), list[Picture]()
    for uri in uris:
        try:
            pictures += _pictures(predictor, read(uri))
        except RejectedInput as error:
            return RejectedInput(error.must, found=f"{error.found}, in {files.told(uri)}", hint=error.hint)
        while len(pictures) >= PICTURES_AT_ONCE:
            parts.append(predictor.score(pictures[:PICTURES_AT_ONCE]))
            pictures = pictures[PICTURES_AT_ONCE:]
    if pictures:
        parts.append(predictor.score(pictures))
    scores = Scores.joined(parts)
    (prediction,) = predictor.decide(scores, [0] * len(scores.complaints), started=started)
    return prediction


def _pictures(predictor: Predictor, data: bytes | RejectedInput) -> list[Picture]:
    if isinstance(data, RejectedInput):
        raise data
    return [predictor.fit(decoded) for decoded in each_frame(lambda start: predictor.frames(data, start=start))]
