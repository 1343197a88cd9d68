"""Generated phantoms as a source: the recipe decides every byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from medloop.data.manifest import fingerprint
from medloop.decode.raster import keyed_hash
from medloop.errors import UnknownName, UserError
from tests.image_files import KEY, read_images
from tests.source_examples import Order

SMALL = {"patients": 8, "slices": 3, "size": 32}


def example(folder: Path, order: Order) -> dict[str, Any]:
    return {"phantom": {"patients": 4, "slices": 1, "size": 32}}


EXAMPLES = {"phantoms": example}


def read(project: Path, *, classes: tuple[str, ...] = (), **phantom: Any) -> pd.DataFrame:
    return read_images(project, source="phantoms", phantom={**SMALL, **phantom}, classes=classes)


def test_the_same_recipe_gives_the_same_cases_anywhere_and_again(tmp_path: Path) -> None:
    first, elsewhere, again = read(tmp_path / "a"), read(tmp_path / "b"), read(tmp_path / "a")
    assert fingerprint(first) == fingerprint(elsewhere) == fingerprint(again)
    pd.testing.assert_frame_equal(first, again)


@pytest.mark.parametrize("change", [{"seed": 1}, {"difficulty": 0.9}, {"size": 40}, {"patients": 9}])
def test_another_recipe_gives_other_cases(change: dict[str, Any], tmp_path: Path) -> None:
    assert fingerprint(read(tmp_path / "a")) != fingerprint(read(tmp_path / "b", **change))


def test_patients_are_known_and_have_up_to_so_many_slices(tmp_path: Path) -> None:
    cases = read(tmp_path / "a", patients=12)
    assert cases["patient_id"].nunique() == 12
    assert cases.groupby("patient_id").size().between(1, 3).all()
    assert cases.groupby("patient_id")["label"].nunique().eq(1).all()
    assert cases["quarantined"].isna().all()


def test_the_classes_of_the_recipe_are_those_that_are_made(tmp_path: Path) -> None:
    cases = read(tmp_path / "a", classes=("normal", "adenocarcinoma"))
    assert set(cases["label"]) == {"normal", "adenocarcinoma"}


def test_as_dicom_they_name_the_same_patients(tmp_path: Path) -> None:
    cases = read(tmp_path / "a", format="dicom")
    assert set(cases["format"]) == {"dicom"}
    # The table of the phantoms names them; what the tags say is not asked.
    assert keyed_hash(cases["patient_id"][0], KEY) != cases["patient_id"][0]
    assert set(cases["patient_id"]) == set(read(tmp_path / "b")["patient_id"])


def test_a_kind_or_class_that_is_unknown_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="kind of phantom"):
        read(tmp_path / "a", kind="chest_cat")
    with pytest.raises(UserError, match="class of chest_ct"):
        read(tmp_path / "a", classes=("normal", "nomral"))
