"""Answers of the past computed again, from the bundle that gave them and the input that was kept."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medloop.bundle import files
from medloop.bundle.predictor import Predictor
from medloop.bundle.tally import largest_difference
from medloop.case import Prediction
from medloop.errors import UserError
from medloop.feedback import StoredPrediction, open_feedback
from medloop.feedback.records import Head
from medloop.registry.reference import Reference
from medloop.registry.store import Champion, ModelStore
from medloop.settings import FeedbackSettings

if TYPE_CHECKING:
    from medloop.feedback.store import Feedback

TOLERANCE = 1e-6
DURABLE_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """An answer as it was given, as it is now, and how far the two lie apart."""

    stored: StoredPrediction
    again: Prediction
    difference: float


def verify(feedback: Feedback, *, noted: str | None = None) -> str:
    """Everything in the journal must be as it was written; the line says how far that goes."""
    problems = feedback.journal.verify(noted=_head_of(noted) if noted else None)
    if problems:
        raise UserError(
            "the journal must be as it was written",
            found="; ".join(problems),
            hint="compare with a backup, and find out who can write to the database",
        )
    head = feedback.journal.head()
    return f"{head.seq} entries are as they were written; note elsewhere: {head.seq}:{head.hash}"


def _head_of(noted: str) -> Head:
    seq, _, digest = noted.partition(":")
    if not seq.isdigit() or len(digest) != 64:
        raise UserError("a noted head must be NUMBER:HASH", found="something else", hint="copy the whole of it")
    return Head(seq=int(seq), hash=digest, signature="")


def note_promotion(root: Path, settings: FeedbackSettings, champion: Champion, *, kind: str = "promotion") -> str:
    """Tell the journal what serves from now on (`promotion` or `rollback`); the sentence says how that went."""
    return _note(root, settings, kind, champion, previous=champion.previous)


def note_reference(root: Path, settings: FeedbackSettings, reference: Reference, *, previous: int | None) -> str:
    """Tell the journal which version later ones are held against; the sentence says how that went."""
    return _note(root, settings, "reference", reference, previous=previous)


def _note(
    root: Path, settings: FeedbackSettings, kind: str, named: Champion | Reference, *, previous: int | None
) -> str:
    content = {
        "version": str(named.version),
        "bundle": named.bundle,
        "previous": None if previous is None else str(previous),
        "by": named.by,
    }
    try:
        with closing(open_feedback(settings, root=root)) as feedback:
            feedback.note(kind, content).result(DURABLE_S)
    except UserError as error:
        return f"not in the journal ({error.found})"
    return "in the journal"


def replay(feedback: Feedback, prediction_id: str, *, models: ModelStore, bundle: Path | None = None) -> Replayed:
    """Compute an answer again; it must be the same, or the error says why it cannot be computed."""
    stored = feedback.prediction(prediction_id)
    if stored is None:
        raise UserError("a prediction must be stored", found="none of this id", hint="check the id")
    cases = _kept_inputs(feedback, stored)
    predictor = Predictor.load(find_bundle(stored.prediction, models=models, bundle=bundle))
    # All that an answer was given for is of one patient.
    again = predictor.predict(cases, patients=[0] * len(cases))[0]
    difference = _difference(stored.prediction, again)
    if difference > TOLERANCE or _decided(stored.prediction) != _decided(again):
        raise UserError(
            f"an answer that is computed again must be equal to {TOLERANCE:g}",
            found=f"{again.label} instead of {stored.prediction.label}, probabilities that differ by {difference:.2g}",
            hint="compare this machine and its onnxruntime with the one that answered",
        )
    return Replayed(stored=stored, again=again, difference=difference)


def find_bundle(answer: Prediction, *, models: ModelStore, bundle: Path | None = None) -> Path:
    """The folder that holds exactly the bundle that gave the answer."""
    if bundle is None:
        found = models.find(answer.bundle, version=answer.version)
    else:
        found = bundle if files.verify(bundle) == answer.bundle else None
    if found is None:
        where = "the folder given" if bundle else "the model store"
        raise UserError(
            "the bundle that gave the answer must be there",
            found=f"none with the hash {answer.bundle[:12]} in {where}",
            hint="restore it, or name its folder with --bundle",
        )
    return found


def _kept_inputs(feedback: Feedback, stored: StoredPrediction) -> Any:
    """The row, the picture or all slices, if they are still there."""
    found = feedback.inputs_of(stored)
    if found is None:
        settings = feedback.settings
        why = f"expired after {settings.keep_days} days" if settings.keep_inputs else "not kept (feedback.keep_inputs)"
        raise UserError(
            "the input of the answer must have been kept",
            found=f"none: {why}, or forgotten",
            hint="the settings keep_inputs and keep_days in section feedback say what is kept",
        )
    return found


def _difference(one: Prediction, other: Prediction) -> float:
    """The largest difference of a probability; infinite between other classes."""
    if one.probabilities.keys() != other.probabilities.keys():
        return float("inf")
    return largest_difference(one, other)


def _decided(prediction: Prediction) -> tuple[Any, ...]:
    """What the answer said, whatever its numbers."""
    return prediction.label, prediction.abstained, prediction.reason, prediction.conformal_set, prediction.threshold
