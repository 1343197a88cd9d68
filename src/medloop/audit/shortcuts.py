"""What the probes look at: the file's facts and name, the border, the grey levels, a network that learned nothing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medloop.audit.features import Looks
from medloop.audit.probes import Matrix, Probe, Task, linear, out_of_fold, run_probe, trees

LONGEST_NAME = 80


def shortcut_probes(table: pd.DataFrame, looks: Looks, task: Task) -> tuple[Probe, ...]:
    """The alarms; what they look at says nothing about the disease."""
    some = table.iloc[task.places]
    return (
        run_probe("metadata", metadata_features(some), task, trees),
        run_probe("size_and_format", metadata_features(some, with_bytes=False), task, trees),
        run_probe("file_name", name_features(some["path"]), task, trees),
        run_probe("border", looks.border[task.places], task, trees),
    )


def baseline_features(looks: Looks, task: Task) -> tuple[Matrix, Matrix]:
    """The grey-level histograms, and the features of a network that learned nothing."""
    from medloop.models.untrained import untrained_features

    network = untrained_features()
    deep = [network(pictures) for _, pictures in looks.chunks(task.places, size=64)]
    return looks.histogram[task.places], np.concatenate(deep)


def guess_labels(histogram: Matrix, deep: Matrix, task: Task) -> Matrix:
    """Probabilities of a simple model, each case judged without having been seen: the ground for label errors."""
    return out_of_fold(np.concatenate([np.sqrt(histogram), deep], axis=1), task, linear)


def metadata_features(table: pd.DataFrame, *, with_bytes: bool = True) -> NDArray[np.float64]:
    """What a file says about itself before anyone looks at the picture."""
    width, height = table["width"].to_numpy(float), table["height"].to_numpy(float)
    area = np.maximum(width * height, 1)
    columns = [width, height, area, width / np.maximum(height, 1)]
    if with_bytes:
        columns.append(table["bytes"].to_numpy(float) / area)
    kinds = pd.get_dummies(
        pd.DataFrame({name: optional(table, name).astype(str) for name in ("mode", "format", "bits")})
    )
    return np.concatenate([np.stack(columns, axis=1), kinds.to_numpy(float)], axis=1)


def optional(table: pd.DataFrame, name: str) -> pd.Series[str]:
    """A column that a manifest may lack."""
    return table[name] if name in table else pd.Series(["" for _ in table.index], index=table.index)


def name_features(paths: pd.Series[str]) -> NDArray[np.float64]:
    """The pattern of each file's own name, digits alike: a number names a patient, a word may name the class."""
    from sklearn.feature_extraction.text import CountVectorizer

    stems = [pattern_of(path) for path in paths]
    counts = CountVectorizer(analyzer="char", ngram_range=(1, 3), max_features=300, binary=True, lowercase=False)
    return np.asarray(counts.fit_transform(stems).toarray(), np.float64)


def pattern_of(path: str) -> str:
    """The file's own name, in small letters, with every digit as 0 and without its ending."""
    return "^" + re.sub(r"\d", "0", PurePosixPath(path).stem.lower())[-LONGEST_NAME:] + "$"


def telling_words(paths: pd.Series[str], labels: pd.Series[str], *, most: int = 5) -> Iterator[tuple[str, str]]:
    """Words in file names that nearly always go with one class, with that class."""
    words: Counter[str] = Counter()
    together: Counter[tuple[str, str]] = Counter()
    for path, label in zip(paths, labels, strict=True):
        found = set(re.findall(r"[^\W\d_]+", PurePosixPath(path).stem.lower()))
        words.update(found)
        together.update((word, label) for word in found)
    telling = [pair for pair, count in together.most_common() if count >= 5 and count >= 0.9 * words[pair[0]]]
    yield from telling[:most]
