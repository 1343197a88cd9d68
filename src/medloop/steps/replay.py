"""Replay of stored predictions, and what is recorded in the journal from the command line."""

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
    """A stored prediction, the same prediction computed again, and their largest difference."""

    stored: StoredPrediction
    again: Prediction
    difference: float


def verify(feedback: Feedback, *, noted: str | None = None) -> str:
    """Verify the whole journal; return a line with its newest entry."""
    problems = feedback.journal.verify(noted=_head_of(noted) if noted else None)
    if problems:
        raise UserError(
            f"The journal was changed after it was written: {'; '.join(problems)}.",
            "Compare it with a backup, and find out who can write to the database.",
        )
    head = feedback.journal.head()
    return f"{head.seq} entries verified; keep this elsewhere: {head.seq}:{head.hash}"


def _head_of(noted: str) -> Head:
    seq, _, digest = noted.partition(":")
    if not seq.isdigit() or len(digest) != 64:
        raise UserError("--noted is not of the form NUMBER:HASH.", "Copy all of what `medloop journal verify` printed.")
    return Head(seq=int(seq), hash=digest, signature="")


def note_promotion(root: Path, settings: FeedbackSettings, champion: Champion, *, kind: str = "promotion") -> str:
    """Record a promotion or rollback in the journal; return whether that succeeded, as part of a sentence."""
    return _note(root, settings, kind, champion, previous=champion.previous)


def note_reference(root: Path, settings: FeedbackSettings, reference: Reference, *, previous: int | None) -> str:
    """Record a new reference version in the journal; return whether that succeeded, as part of a sentence."""
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
        return f"not in the journal ({error.reason})"
    return "in the journal"


def replay(feedback: Feedback, prediction_id: str, *, models: ModelStore, bundle: Path | None = None) -> Replayed:
    """Compute a stored prediction again, and raise an error where the result differs."""
    stored = feedback.prediction(prediction_id)
    if stored is None:
        raise UserError(f"No prediction with id {prediction_id}.", "Check the id.")
    cases = _kept_inputs(feedback, stored)
    predictor = Predictor.load(find_bundle(stored.prediction, models=models, bundle=bundle))
    # All inputs of a prediction belong to one patient.
    again = predictor.predict(cases, patients=[0] * len(cases))[0]
    difference = _difference(stored.prediction, again)
    if difference > TOLERANCE or _decision(stored.prediction) != _decision(again):
        raise UserError(
            f"The replayed prediction is {again.label}, the stored one {stored.prediction.label}; their probabilities "
            f"differ by {difference:.2g} ({TOLERANCE:g} allowed).",
            "Compare this machine and its onnxruntime with those that served the prediction.",
        )
    return Replayed(stored=stored, again=again, difference=difference)


def find_bundle(prediction: Prediction, *, models: ModelStore, bundle: Path | None = None) -> Path:
    """Return the folder of the very bundle that made the prediction."""
    if bundle is None:
        found = models.find(prediction.bundle, version=prediction.version)
    else:
        found = bundle if files.verify(bundle) == prediction.bundle else None
    if found is None:
        where = "The given folder" if bundle else "The model store"
        raise UserError(
            f"{where} does not hold bundle {prediction.bundle[:12]}, which made this prediction.",
            "Restore it, or name its folder with --bundle.",
        )
    return found


def _kept_inputs(feedback: Feedback, stored: StoredPrediction) -> Any:
    """Return the row, the image or all slices, if they are still stored."""
    found = feedback.inputs_of(stored)
    if found is None:
        settings = feedback.settings
        why = f"expired after {settings.keep_days} days" if settings.keep_inputs else "not kept (feedback.keep_inputs)"
        raise UserError(
            f"The input of this prediction is no longer stored: {why}, or deleted.",
            "The settings keep_inputs and keep_days in section feedback control what is kept.",
        )
    return found


def _difference(one: Prediction, other: Prediction) -> float:
    """Return the largest difference between probabilities; infinite if the classes differ."""
    if one.probabilities.keys() != other.probabilities.keys():
        return float("inf")
    return largest_difference(one, other)


def _decision(prediction: Prediction) -> tuple[Any, ...]:
    """Return everything of a prediction but its probabilities."""
    return prediction.label, prediction.abstained, prediction.reason, prediction.conformal_set, prediction.threshold
