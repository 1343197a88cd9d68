"""The scikit-learn pipeline of a table model: impute, encode, scale where the model needs it, estimate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from medloop.models import find_model, hyperparameters


def model_columns(kinds: Mapping[str, str]) -> dict[str, str]:
    """Return short names for the columns, in sorted order, so that neither their order nor odd characters matter."""
    return {name: f"c{number}" for number, name in enumerate(sorted(kinds))}


def model_frame(inputs: Mapping[str, Any]) -> pd.DataFrame:
    """Return a preparer's typed arrays as the table that the pipeline takes."""
    short = model_columns(dict.fromkeys(inputs, ""))
    return pd.DataFrame({short[name]: inputs[name][:, 0] for name in sorted(inputs)})


def table_pipeline(name: str, params: Mapping[str, Any], *, kinds: Mapping[str, str], seed: int) -> Any:
    """Return an unfitted pipeline with the steps `prepare` and `estimate` for columns of these kinds."""
    import numpy as np
    from sklearn.compose import ColumnTransformer
    from sklearn.impute import SimpleImputer
    from sklearn.pipeline import Pipeline, make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    model = find_model(name)
    short = model_columns(kinds)
    numbers = [short[column] for column in sorted(kinds) if kinds[column] == "number"]
    categories = [short[column] for column in sorted(kinds) if kinds[column] == "category"]
    fill = [SimpleImputer(strategy="median", keep_empty_features=True)]
    encode = OneHotEncoder(handle_unknown="ignore", sparse_output=False, dtype=np.float32)
    transformers = [
        ("numbers", make_pipeline(*fill, *([StandardScaler()] if model.scaled else [])), numbers),
        ("categories", encode, categories),
    ]
    prepare = ColumnTransformer([part for part in transformers if part[2]], sparse_threshold=0)
    estimator = model.build(seed=seed, **hyperparameters(name, params))
    return Pipeline([("prepare", prepare), ("estimate", estimator)])
