"""Phantoms as DICOM are valid, show what the PNG shows and name no person."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_windowing

from medloop.phantoms import PhantomSpec, generate, write


def written(spec: PhantomSpec, folder: Path) -> list[Dataset]:
    root = write(spec, folder)
    names = [f"{item.label}/{item.patient_id}_{item.index}.dcm" for item in generate(spec)]
    return [dcmread(root / name) for name in names]


def windowed(ds: Dataset) -> np.ndarray:
    """pydicom's own reading of the window, from 0 to 1."""
    low, high = (float(ds.RescaleSlope * stored + ds.RescaleIntercept) for stored in (0, 2**16 - 1))
    shown = apply_windowing(apply_modality_lut(ds.pixel_array, ds), ds)
    return np.asarray((shown - low) / (high - low))


@pytest.mark.parametrize("kind", ["chest_ct", "six_kinds"])
@pytest.mark.parametrize("monochrome1", [False, True])
def test_a_viewer_shows_the_generated_pixels(kind: str, monochrome1: bool, tmp_path: Path) -> None:
    spec = PhantomSpec(kind=kind, patients=6, size=64, format="dicom", monochrome1=monochrome1)
    for ds, item in zip(written(spec, tmp_path), generate(spec), strict=True):
        unit = windowed(ds)
        assert np.abs(255 * (1 - unit if monochrome1 else unit) - item.pixels).max() <= 1
        assert ds.PhotometricInterpretation == ("MONOCHROME1" if monochrome1 else "MONOCHROME2")


def test_monochrome1_stores_bright_as_low(tmp_path: Path) -> None:
    plain, mirrored = (
        written(PhantomSpec(patients=2, size=64, format="dicom", monochrome1=flag), tmp_path / str(flag))
        for flag in (False, True)
    )
    for one, other in zip(plain, mirrored, strict=True):
        alike = np.corrcoef(one.pixel_array.ravel(), other.pixel_array.ravel())[0, 1]
        assert alike == pytest.approx(-1)


def test_files_are_sixteen_bit_with_rescale_and_window(tmp_path: Path) -> None:
    spec = PhantomSpec(kind="six_kinds", patients=6, format="dicom")
    for ds, item in zip(written(spec, tmp_path), generate(spec), strict=True):
        assert ds.pixel_array.dtype == np.uint16
        assert (ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.SamplesPerPixel) == (16, 16, 15, 1)
        assert ds.RescaleIntercept == -2048
        assert ds.RescaleSlope == (1 if ds.Modality == "CT" else 0.5)
        assert (ds.WindowCenter, ds.WindowWidth) == (item.drawing.window.centre, item.drawing.window.width)
        assert np.array_equal(apply_modality_lut(ds.pixel_array, ds), item.drawing.values)


def test_patients_studies_series_and_instances_are_identified(tmp_path: Path) -> None:
    files = written(PhantomSpec(patients=10, size=32, format="dicom"), tmp_path)
    assert len({ds.SOPInstanceUID for ds in files}) == len(files)
    for one, other in itertools.combinations(files, 2):
        same = one.PatientID == other.PatientID
        assert (one.StudyInstanceUID == other.StudyInstanceUID) == same
        assert (one.SeriesInstanceUID == other.SeriesInstanceUID) == same
    assert all(ds.file_meta.MediaStorageSOPInstanceUID == ds.SOPInstanceUID for ds in files)
    assert all(ds.SOPInstanceUID.is_valid and ds.StudyInstanceUID.is_valid for ds in files)


def test_the_tags_say_phantom_and_not_the_class(tmp_path: Path) -> None:
    spec = PhantomSpec(patients=8, size=32, format="dicom")
    for ds, item in zip(written(spec, tmp_path), generate(spec), strict=True):
        assert str(ds.PatientName).startswith("PHANTOM")
        assert ds.Manufacturer == "PHANTOM"
        assert "PHANTOM" in ds.ImageComments
        del ds.PixelData
        assert item.label not in str(ds)
