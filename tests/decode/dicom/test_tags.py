from __future__ import annotations

import numpy as np
import pytest

from medloop.decode.dicom.tags import IDENTIFIERS, KEPT, Identifiers
from medloop.decode.raster import decode
from tests.decode.dicom_files import dicom, ramp, shipped


@pytest.mark.parametrize(
    ("age", "band"),
    [("063Y", "60-69"), ("009Y", "0-9"), ("018M", "0-9"), ("130M", "10-19"), ("003D", "0-9"), ("089Y", "80-89")],
)
def test_ages_become_bands_of_ten_years(age: str, band: str) -> None:
    assert decode(dicom(ramp(), PatientAge=age)).meta["PatientAge"] == band


@pytest.mark.parametrize("age", ["090Y", "101Y"])
def test_great_ages_are_one_band(age: str) -> None:
    assert decode(dicom(ramp(), PatientAge=age)).meta["PatientAge"] == "90+"


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        ("PatientAge", "old"),
        ("PatientSex", "JANE"),
        ("BodyPartExamined", "Doe, Jane"),
        ("BodyPartExamined", "A CHEST OF JANE DOE"),
        ("SliceThickness", "DOE"),
        ("SliceThickness", "1e999"),
        ("Manufacturer", "x" * 65),
        ("Manufacturer", "<script>"),
    ],
)
def test_a_value_that_does_not_look_like_its_tag_is_left_out(tag: str, value: str) -> None:
    assert tag not in decode(dicom(ramp(), **{tag: value})).meta


def test_lists_of_numbers_are_kept_as_such() -> None:
    meta = decode(dicom(ramp(), PixelSpacing="0.5\\0.25", SliceThickness="1.5")).meta
    assert meta["PixelSpacing"] == [0.5, 0.25]
    assert meta["SliceThickness"] == 1.5


def test_only_the_allow_list_is_kept_of_a_real_file() -> None:
    meta = decode(shipped("CT_small.dcm")).meta
    assert set(meta) <= set(KEPT)
    assert (meta["Modality"], meta["ManufacturerModelName"]) == ("CT", "RHAPSODE")


def test_identifiers_are_not_kept_values_and_do_not_print() -> None:
    assert not set(IDENTIFIERS) & set(KEPT)
    assert "MRN" not in repr(Identifiers(patient="MRN-1", study="MRN-2", series="MRN-3"))


def test_a_multi_byte_patient_id_is_hashed() -> None:
    data = dicom(np.zeros((4, 4), np.uint8), SpecificCharacterSet="ISO_IR 192", PatientID="患者-1")
    assert len(decode(data, patient_key=b"k").patient or "") == 64
