"""The Wisconsin table: 569 biopsies, malignant named, and the same wherever it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from medloop.data import manifest, read_source
from medloop.errors import UserError
from medloop.recipe import DataSection
from tests.source_examples import Order
from tests.tables import places


def example(folder: Path, order: Order) -> dict[str, Any]:
    return {}


EXAMPLES = {"wisconsin": example}


def test_the_table_is_whole(tmp_path: Path) -> None:
    cases = read_source(DataSection(source="wisconsin"), places(tmp_path))
    assert cases["label"].value_counts().to_dict() == {"benign": 357, "malignant": 212}
    assert len(manifest.value_columns(cases)) == 30
    assert not manifest.values(cases).isna().any().any()
    assert cases["patient_id"].isna().all()
    assert list(tmp_path.iterdir()) == []


def test_malignant_tumours_are_the_larger_ones(tmp_path: Path) -> None:
    cases = read_source(DataSection(source="wisconsin"), places(tmp_path))
    means = cases.groupby("label")["row.mean radius"].mean()
    assert means["malignant"] > means["benign"] + 3


def test_columns_can_be_dropped_and_labels_renamed(tmp_path: Path) -> None:
    section = DataSection(
        source="wisconsin", drop=["mean radius"], rename={"malignant": "cancer"}, classes=["cancer", "benign"]
    )
    cases = read_source(section, places(tmp_path))
    assert len(manifest.value_columns(cases)) == 29
    assert set(cases["label"]) == {"benign", "cancer"}


def test_classes_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="class"):
        read_source(DataSection(source="wisconsin", classes=["B", "M"]), places(tmp_path))
