"""Phantom patients as DICOM series, one file of many frames a series."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import generate_uid

from medloop.phantoms import PhantomSpec, Slice, generate_patient
from medloop.phantoms.dicom import encode_dicom
from medloop.phantoms.spec import Identity


def series_of(slices: Sequence[Slice], *, number: int = 1, grouped: bool = False) -> bytes:
    """One file with the slices as frames; `grouped` puts window and slope into the functional groups of each frame."""
    frames = [_single(item) for item in slices]
    series = frames[0]
    patient = series.PatientID
    series.SeriesInstanceUID = generate_uid(entropy_srcs=["series", patient, str(number)])
    series.SOPInstanceUID = generate_uid(entropy_srcs=["frames", patient, str(number)])
    series.file_meta.MediaStorageSOPInstanceUID = series.SOPInstanceUID
    if grouped:
        series.PerFrameFunctionalGroupsSequence = Items([_groups(frame) for frame in frames])
        for name in ("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept", "RescaleType"):
            delattr(series, name)
    series.PixelData = b"".join(frame.PixelData for frame in frames)
    series.NumberOfFrames = len(frames)
    buffer = io.BytesIO()
    series.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def write_series(
    root: Path, spec: PhantomSpec, *, by_class: bool = True, by_patient: bool = False, grouped: bool = False
) -> Path:
    """Every patient of the spec; the slices of every third lie in two series."""
    for patient in range(spec.patients):
        slices = list(generate_patient(spec, patient))
        cut = len(slices) // 2 if patient % 3 == 0 and len(slices) > 1 else len(slices)
        folder = root / (slices[0].label if by_class else "") / (slices[0].patient_id if by_patient else "")
        folder.mkdir(parents=True, exist_ok=True)
        for number, part in enumerate((slices[:cut], slices[cut:])):
            if part:
                data = series_of(part, number=number, grouped=grouped)
                (folder / f"scan{patient:03d}_{number}.dcm").write_bytes(data)
    return root


def _single(item: Slice) -> Dataset:
    identity = Identity(patient_id=item.patient_id, index=item.index)
    return dcmread(io.BytesIO(encode_dicom(item.drawing, identity, monochrome1=False)))


def _groups(frame: Dataset) -> Dataset:
    window, tone = Dataset(), Dataset()
    window.WindowCenter, window.WindowWidth = frame.WindowCenter, frame.WindowWidth
    tone.RescaleSlope, tone.RescaleIntercept = frame.RescaleSlope, frame.RescaleIntercept
    group = Dataset()
    group.FrameVOILUTSequence, group.PixelValueTransformationSequence = Items([window]), Items([tone])
    return group
