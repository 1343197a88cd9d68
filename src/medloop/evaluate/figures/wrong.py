"""The worst errors of the bundle, with the evidence in their images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from medloop.bundle.heatmap import overlay
from medloop.bundle.predictor import Predictor
from medloop.evaluate.figures.scores import Measured

MAX_SHOWN = 12


def most_wrong(measured: Measured, classes: Sequence[str], *, most: int = MAX_SHOWN) -> list[dict[str, Any]]:
    """Return the misclassified cases, those with the lowest probability of the true class first."""
    answers = measured.answers
    of_truth = answers.probabilities[np.arange(len(measured.y)), measured.y]
    wrong = np.flatnonzero(answers.choices != measured.y).tolist()
    order = sorted(wrong, key=lambda place: (of_truth[place], measured.cases[place].case_id))
    return [
        {
            "place": place,
            "case_id": measured.cases[place].case_id,
            "label": classes[measured.y[place]],
            "decided": classes[answers.choices[place]],
            "probability_of_label": float(of_truth[place]),
            "probability_of_decided": float(answers.probabilities[place, answers.choices[place]]),
            "abstained": bool(measured.abstained[place]),
            "reason": answers.reasons[place],
        }
        for place in order[:most]
    ]


def wrong_pictures(
    predictor: Predictor, measured: Measured, rows: Sequence[dict[str, Any]], files: Sequence[bytes]
) -> list[bytes]:
    """Return for each case its image as the model received it, next to the heatmap of the decided class."""
    return [_pair(predictor, files[_shown_slice(measured, row["place"])]) for row in rows]


def _shown_slice(measured: Measured, place: int) -> int:
    """Return the row of the case's image; for a patient, that of the middle slice."""
    members = measured.answers.members[place]
    return members[len(members) // 2]


def _pair(predictor: Predictor, data: bytes) -> bytes:
    """Return a JPEG of both images side by side."""
    import cv2

    decoded = predictor.decode(data)
    picture = predictor.preparer.fit_pixels(decoded.pixels)
    plain = overlay(picture, np.zeros(picture.shape[:2]))
    both = [cv2.imdecode(np.frombuffer(png, np.uint8), 1) for png in (plain, predictor.heatmap(decoded))]
    shown = np.hstack([np.asarray(one, np.uint8) for one in both])
    return bytes(cv2.imencode(".jpg", shown, [cv2.IMWRITE_JPEG_QUALITY, 85])[1])
