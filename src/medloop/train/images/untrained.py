"""Predictions of a head on the features of an untrained network, as the baseline for the trained model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from medloop.decode.rule import Pixels
from medloop.metrics.view import FloatArray
from medloop.models.untrained import Features, untrained_features
from medloop.prepare.prepared_images import read_prepared_images
from medloop.progress import track
from medloop.storage import read_parquet

SIDE = 64
BATCH = 256
MAX_TRAINING_CASES = 5000
STRENGTH = 1e-3


def untrained_probabilities(prepared: Path, splits: Path, case_ids: Sequence[str], *, seed: int = 0) -> FloatArray:
    """Return one row per case; a case without an image gets the class frequencies of the training cases."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    pictures = read_prepared_images(prepared)
    classes = tuple(pictures.task["classes"])
    place = {name: row for row, name in enumerate(pictures.case_ids)}
    parts = read_parquet(splits)
    train = [place[name] for name in parts["case_id"][parts["part"] == "train"] if name in place]
    learned = np.sort(np.random.default_rng(seed).permutation(train)[:MAX_TRAINING_CASES])
    to_predict = [place[name] for name in case_ids if name in place]
    y = np.array([classes.index(pictures.labels[row]) for row in learned])
    features = _features(pictures.images, [*learned.tolist(), *to_predict], seed=seed)
    head = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTH, max_iter=1000))
    found = np.tile(np.bincount(y, minlength=len(classes)) / len(y), (len(case_ids), 1))
    rows = [number for number, name in enumerate(case_ids) if name in place]
    with threadpool_limits(1):  # sums in another order would differ in their last digits on another machine
        head.fit(features[: len(y)], y)
        # A class without a training case has no column of its own.
        found[np.ix_(rows, head.classes_)] = head.predict_proba(features[len(y) :])
    return np.asarray(found)


def _features(images: Pixels, rows: Sequence[int], *, seed: int) -> Features:
    """Return the features of small grey copies of the images."""
    network = untrained_features(seed=seed)
    starts = track(range(0, len(rows), BATCH), total=-(-len(rows) // BATCH), what="untrained network")
    chunks = (rows[start : start + BATCH] for start in starts)
    return np.concatenate([network(np.stack([_shrink(np.asarray(images[row])) for row in some])) for some in chunks])


def _shrink(picture: Pixels) -> Pixels:
    import cv2

    grey = picture.mean(axis=2).astype(np.uint8)
    return np.asarray(cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.uint8)
