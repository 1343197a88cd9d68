"""The only inference code, used by evaluation, service, batch scoring and shadow deployment."""

from __future__ import annotations

import io
import secrets
import time
import zipfile
from collections.abc import Hashable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from medloop.bundle import files
from medloop.bundle.decide import Decider, FloatArray
from medloop.bundle.heatmap import evidence, overlay
from medloop.bundle.inputs import Complaints, ImageInput, Picture, find_input, model_input
from medloop.bundle.session import ONNX_ERRORS, open_session
from medloop.bundle.verify.graph import refuse_external_data
from medloop.bundle.verify.sound import check_decider, check_outputs
from medloop.case import Prediction, Row
from medloop.decode.rule import Decoded, Frames, Pixels
from medloop.errors import BrokenBundle, RejectedInput, UserError

PLAIN_ERRORS = (ArithmeticError, AttributeError, LookupError, TypeError, UserError, ValueError, zipfile.BadZipFile)
MISFITS: tuple[type[Exception], ...] = (*ONNX_ERRORS, *PLAIN_ERRORS)

SCORED = ("logits", "embedding", "probabilities")

Inputs = Sequence[Row] | Sequence[bytes] | Sequence[Decoded] | Sequence[Picture]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The outputs of the model for each case before any abstention, and what is wrong with the case itself."""

    logits: FloatArray
    embedding: FloatArray
    probabilities: FloatArray
    complaints: Complaints

    @classmethod
    def joined(cls, parts: Sequence[Scores]) -> Scores:
        """Return the scores of all parts, in order."""
        arrays = {name: np.concatenate([getattr(part, name) for part in parts]) for name in SCORED}
        return cls(**arrays, complaints=[one for part in parts for one in part.complaints])


class Predictor:
    """A verified bundle, ready to predict for rows or for image files."""

    def __init__(self, *, folder: Path, digest: str, meta: dict[str, Any], threads: int) -> None:
        self.meta = meta
        self.hash = digest
        self.version = "unregistered"
        self._input: Any = find_input(meta)
        self.preparer: Any = self._input.preparer
        # From memory, since NumPy does not close a file that it cannot read.
        with np.load(io.BytesIO((folder / files.REFERENCE).read_bytes()), allow_pickle=False) as reference:
            self.decider = Decider.from_meta(meta, reference)
        check_decider(self.decider)
        model = (folder / files.MODEL).read_bytes()
        refuse_external_data(model)
        self._session = open_session(model, threads=threads)

    @classmethod
    def load(cls, folder: Path, *, threads: int = 1) -> Predictor:
        """Verify the checksums and the format, then load; no code in the folder is run."""
        digest, meta = files.verify(folder), files.read_meta(folder)
        try:
            predictor = cls(folder=folder, digest=digest, meta=meta, threads=threads)
            # One made-up case checks that bundle.json fits the model, and warms both up.
            example = predictor.example()
            scores = predictor.score([example])
            check_outputs({name: getattr(scores, name) for name in SCORED})
            predictor.decide(scores, [0], started=time.perf_counter())
            if predictor.is_image:
                predictor.heatmap(example)
        except BrokenBundle:
            raise
        except MISFITS as error:
            raise BrokenBundle(
                f"The model and the description of the bundle do not fit ({type(error).__name__}).", files.EXPORT_AGAIN
            ) from error
        return predictor

    def on_threads(self, folder: Path, threads: int) -> Predictor:
        """Return the same bundle with a session of this many threads, sharing everything else."""
        if files.verify(folder) != self.hash:
            raise BrokenBundle("The bundle has changed since it was loaded.", files.EXPORT_AGAIN)
        twin = copy(self)
        twin._session = open_session((folder / files.MODEL).read_bytes(), threads=threads)
        return twin

    def score(self, cases: Inputs) -> Scores:
        """Return the scores of rows or images, before any abstention."""
        parts, complaints = [], []
        for start in range(0, len(cases), self._input.at_once):
            inputs, found = self._input.read(cases[start : start + self._input.at_once])
            parts.append(self._session.run(["logits", "embedding"], inputs))
            complaints += found
        logits, embedding = (np.concatenate(part) for part in zip(*parts, strict=True))
        probabilities = self.decider.probabilities(logits)
        return Scores(
            logits=logits,
            embedding=embedding,
            probabilities=probabilities,
            complaints=complaints,
        )

    def predict(self, cases: Inputs, *, patients: Sequence[Hashable] | None = None) -> list[Prediction]:
        """Return one prediction per case, in order, or one per patient where the bundle decides per patient."""
        if not cases:
            raise RejectedInput("The request has no cases.", "Send records or images.")
        if self.needs_patients and patients is None:
            raise needs_patients(len(cases), hint="Name the patient of each case.")
        started = time.perf_counter()
        return self.decide(self.score(cases), patients, started=started)

    def decide(self, scores: Scores, patients: Sequence[Hashable] | None = None, *, started: float) -> list[Prediction]:
        """Return the predictions that follow from scores; the latency counts from `started`."""
        if patients is None or not self.needs_patients:
            patients = range(len(scores.probabilities))
        answers = self.decider.answers(scores.probabilities, scores.embedding, scores.complaints, patients)
        milliseconds = (time.perf_counter() - started) * 1000 / len(answers.members)
        parts = zip(answers.probabilities, answers.choices, answers.sets, answers.reasons, strict=True)
        return [self._prediction(shares, int(choice), left, why, milliseconds) for shares, choice, left, why in parts]

    @property
    def needs_patients(self) -> bool:
        """Whether it decides per patient, from all slices together."""
        return self.decider.per == "patient"

    def read_texts(self, texts: Mapping[str, str]) -> Row:
        """Return the row of these texts, each read like a cell of a CSV file."""
        missing = frozenset(self.meta["recipe"]["data"]["missing"])
        row: Row = self.preparer.read_texts(texts, missing=missing)
        return row

    def example(self) -> Any:
        """Return a made-up case that the model can score."""
        return self._input.example()

    @property
    def is_image(self) -> bool:
        """Whether it takes images rather than rows."""
        return isinstance(self._input, ImageInput)

    def decode(self, data: bytes) -> Decoded:
        """Return the decoded image of a file, which the other methods accept as well."""
        return self._images().decode(data)

    def frames(self, data: bytes, *, start: int = 0, patient_key: bytes | None = None) -> Frames:
        """Return frames of a file from `start` on: a single one, or several where the bundle uses all frames."""
        return self._images().frames(data, start=start, patient_key=patient_key)

    def fit(self, decoded: Decoded) -> Picture:
        """Return the prepared image, so that the caller can free the decoded one."""
        return self._images().picture(decoded)

    def is_light(self, data: bytes) -> bool:
        """Whether a file is likely to be decoded quickly enough for others to wait for it."""
        return self._images().is_light(data)

    def heatmap(self, data: bytes | Decoded, *, label: str | None = None) -> bytes:
        """Return a PNG of the prepared image with the evidence for the class in colour."""
        return overlay(*self.evidence(data, label=label))

    def evidence(self, data: bytes | Decoded, *, label: str | None = None) -> tuple[Pixels, FloatArray]:
        """Return the prepared image, and the evidence for the class at each of its pixels, 0 to 1.

        The class is the one predicted for this image, unless that of the patient is given.
        """
        picture = self._images().picture(data).pixels
        logits, cam = self._session.run(["logits", "cam"], model_input(picture[None]))
        if label is None:
            choice = int(self.decider.choices(self.decider.probabilities(logits))[0])
        else:
            choice = self.decider.classes.index(label)
        height, width = picture.shape[:2]
        others = self.decider.others_than(choice)
        shift = tuple(self.meta["map_shift"])
        return picture, evidence(cam[0], choice, against=others, height=height, width=width, shift=shift)

    def _images(self) -> ImageInput:
        if not isinstance(self._input, ImageInput):
            raise UserError(
                "The model takes rows of a table: it accepts no images and has no heatmaps.", "Send records."
            )
        return self._input

    def _prediction(
        self, probabilities: FloatArray, choice: int, remaining: Any, reason: str | None, milliseconds: float
    ) -> Prediction:
        classes = self.decider.classes
        return Prediction(
            id=_new_id(),
            label=None if reason else classes[choice],
            probabilities={name: float(share) for name, share in zip(classes, probabilities, strict=True)},
            threshold=self.decider.threshold,
            conformal_set=tuple(name for name, stays in zip(classes, remaining, strict=True) if stays),
            abstained=reason is not None,
            reason=reason,
            model=self.meta["name"],
            version=self.version,
            bundle=self.hash,
            latency_ms=milliseconds,
        )


def needs_patients(cases: int, *, hint: str, example: str = "") -> RejectedInput:
    """Return the rejection of cases without a patient, where the bundle decides per patient."""
    count = f"{cases} of the cases have" if cases > 1 else "the case has"
    return RejectedInput(
        f"The model decides per patient, but {count} no patient{example}.",
        hint,
    )


def _new_id() -> str:
    """Return an id that sorts after all earlier ones, so that a database appends it to its index."""
    return f"{time.time_ns() // 1000:014x}{secrets.token_hex(9)}"
