"""The features that the probes use: file properties and names, borders, grey levels, an untrained network."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medloop.audit.images.features import ImageSummaries
from medloop.audit.images.probes import Matrix, Probe, Task, linear, out_of_fold, run_probe, trees

MAX_NAME_LENGTH = 80


def shortcut_probes(table: pd.DataFrame, summaries: ImageSummaries, task: Task) -> tuple[Probe, ...]:
    """Run the probes of features that cannot show the disease."""
    some = table.iloc[task.places]
    return (
        run_probe("metadata", metadata_features(some), task, trees),
        run_probe("size_and_format", metadata_features(some, with_bytes=False), task, trees),
        run_probe("file_name", name_features(some["path"]), task, trees),
        run_probe("border", summaries.border[task.places], task, trees),
    )


def baseline_features(summaries: ImageSummaries, task: Task) -> tuple[Matrix, Matrix]:
    """Return the grey-level histograms and the features of an untrained network."""
    from medloop.models.untrained import untrained_features

    network = untrained_features()
    deep = [network(images) for _, images in summaries.chunks(task.places, size=64)]
    return summaries.histogram[task.places], np.concatenate(deep)


def predict_labels(histogram: Matrix, deep: Matrix, task: Task) -> Matrix:
    """Return the out-of-fold probabilities of a simple model, which the search for label errors uses."""
    return out_of_fold(np.concatenate([np.sqrt(histogram), deep], axis=1), task, linear)


def metadata_features(table: pd.DataFrame, *, with_bytes: bool = True) -> NDArray[np.float64]:
    """Return the properties of each file: size, mode, format, length."""
    width, height = table["width"].to_numpy(float), table["height"].to_numpy(float)
    area = np.maximum(width * height, 1)
    columns = [width, height, area, width / np.maximum(height, 1)]
    if with_bytes:
        columns.append(table["bytes"].to_numpy(float) / area)
    kinds = pd.get_dummies(
        pd.DataFrame({name: column_or_blank(table, name).astype(str) for name in ("mode", "format", "bits")})
    )
    return np.concatenate([np.stack(columns, axis=1), kinds.to_numpy(float)], axis=1)


def column_or_blank(table: pd.DataFrame, name: str) -> pd.Series[str]:
    """Return a column, blank where the manifest does not have it."""
    return table[name] if name in table else pd.Series(["" for _ in table.index], index=table.index)


def name_features(paths: pd.Series[str]) -> NDArray[np.float64]:
    """Return the character n-grams of each file name; digits, which may number patients, are all alike."""
    from sklearn.feature_extraction.text import CountVectorizer

    stems = [pattern_of(path) for path in paths]
    counts = CountVectorizer(analyzer="char", ngram_range=(1, 3), max_features=300, binary=True, lowercase=False)
    return np.asarray(counts.fit_transform(stems).toarray(), np.float64)


def pattern_of(path: str) -> str:
    """Return the file name in lower case, with every digit as 0 and without its extension."""
    return "^" + re.sub(r"\d", "0", PurePosixPath(path).stem.lower())[-MAX_NAME_LENGTH:] + "$"


def class_words(paths: pd.Series[str], labels: pd.Series[str], *, max_words: int = 5) -> Iterator[tuple[str, str]]:
    """Yield words in file names that almost always occur with one class, each with that class."""
    words: Counter[str] = Counter()
    together: Counter[tuple[str, str]] = Counter()
    for path, label in zip(paths, labels, strict=True):
        found = set(re.findall(r"[^\W\d_]+", PurePosixPath(path).stem.lower()))
        words.update(found)
        together.update((word, label) for word in found)
    typical = [pair for pair, count in together.most_common() if count >= 5 and count >= 0.9 * words[pair[0]]]
    yield from typical[:max_words]
