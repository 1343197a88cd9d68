"""Made-up answers to store."""

from __future__ import annotations

import io
import uuid
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medloop.case import Prediction, Row
from medloop.feedback import Answered
from medloop.feedback.journal.chain import Signer, load_signer
from medloop.feedback.operations import Operation
from medloop.feedback.store import Feedback
from medloop.settings import FeedbackSettings

CLASSES = ("clear", "disc", "ring")


def make_prediction(**changes: Any) -> Prediction:
    """An answer with an id of its own."""
    values: dict[str, Any] = {
        "id": uuid.uuid4().hex,
        "label": "disc",
        "probabilities": {"clear": 0.1, "disc": 0.7, "ring": 0.2},
        "threshold": 0.5,
        "conformal_set": ("disc", "ring"),
        "abstained": False,
        "reason": None,
        "model": "discs",
        "version": "3",
        "bundle": "b" * 64,
        "latency_ms": 4.2,
    }
    return Prediction(**{**values, **changes})


def make_png(seed: int = 0) -> bytes:
    """A picture of noise."""
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 32), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def picture(seed: int | None = 0, **changes: Any) -> Answered:
    """An answer for a picture."""
    png = None if seed is None else make_png(seed)
    prediction = make_prediction(**changes)
    return Answered(
        prediction=prediction,
        kind="image",
        key="k1",
        trace_id="t" * 32,
        input_sha256="a" * 64,
        input_png=png,
        size=(32, 24),
    )


def table(row: Row, **changes: Any) -> Answered:
    """An answer for a row."""
    return Answered(prediction=make_prediction(**changes), kind="table", key="k1", trace_id="t" * 32, row=row)


def kept_png(feedback: Feedback, prediction_id: str) -> bytes | None:
    """The picture that is kept for an answer."""
    stored = feedback.prediction(prediction_id)
    assert stored is not None
    found = feedback.input_of(stored)
    assert not isinstance(found, dict)
    return found


def signer_of(root: Path) -> Signer:
    """The journal's key of the store in this folder."""
    return load_signer(FeedbackSettings(), root / "feedback.key", begun=True, stateless=False)


def spooled_line(operation: Operation, signer: Signer) -> bytes:
    """An operation as a line of the spool."""
    line = operation.to_line()
    return f"{signer.text(line)} {line}\n".encode()
