"""Source: the Wisconsin diagnostic breast cancer table that comes with scikit-learn."""

from __future__ import annotations

import pandas as pd

from medloop.case import Value
from medloop.data.places import Places
from medloop.data.table import Sheet, manifest_of
from medloop.recipe import DataSection

CLASSES = ("benign", "malignant")


def read_wisconsin(section: DataSection, places: Places) -> pd.DataFrame:  # noqa: ARG001 - nothing to fetch
    """Read the 569 biopsies with 30 measurements each."""
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer()
    columns: dict[str, list[Value]] = {
        str(name): [float(v) for v in bunch.data[:, i]] for i, name in enumerate(bunch.feature_names)
    }
    labels = [str(bunch.target_names[target]) for target in bunch.target]
    defaults = section.model_copy(update={"label": "diagnosis", "classes": section.classes or CLASSES})
    return manifest_of(Sheet({**columns, "diagnosis": list(labels)}), defaults, source="wisconsin")
