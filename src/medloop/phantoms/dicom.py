"""Encode phantoms as DICOM: 16 bit, rescaled, windowed, with PHANTOM in the tags instead of a person."""

from __future__ import annotations

import io
from typing import Final

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    UID,
    ComputedRadiographyImageStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)

from medloop.phantoms.spec import Drawing, Identity, Values

_STORAGE: Final[dict[str, UID]] = {
    "CT": CTImageStorage,
    "MR": MRImageStorage,
    "CR": ComputedRadiographyImageStorage,
}
_FIELD_OF_VIEW_MM: Final = 400.0
_SLICE_MM: Final = 5.0


def encode_dicom(drawing: Drawing, identity: Identity, *, monochrome1: bool) -> bytes:
    """Return the bytes of a DICOM file; MONOCHROME1 mirrors the values about the window, so that it looks the same."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = _STORAGE[drawing.modality]
    ds.Modality = drawing.modality
    ds.BodyPartExamined = drawing.body_part
    ds.PhotometricInterpretation = "MONOCHROME1" if monochrome1 else "MONOCHROME2"
    ds.RescaleSlope = 1 if drawing.modality == "CT" else 0.5
    ds.RescaleIntercept = -8192 if monochrome1 else -2048
    ds.RescaleType = "HU" if drawing.modality == "CT" else "US"
    ds.WindowCenter = drawing.window.centre
    ds.WindowWidth = drawing.window.width
    _describe(ds)
    tag_identity(ds, identity)
    _place_slice(ds, side=drawing.values.shape[1], index=identity.index)
    put_values(ds, drawing.values)
    return to_bytes(ds)


def to_bytes(ds: Dataset) -> bytes:
    """Return the data set as a DICOM file."""
    buffer = io.BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def put_values(ds: Dataset, values: Values) -> None:
    """Store measured values as pixel data."""
    stored = (mirrored(values, ds) - float(ds.RescaleIntercept)) / float(ds.RescaleSlope)
    ds.Rows, ds.Columns = values.shape
    ds.SamplesPerPixel = 1
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, 16, 15, 0
    ds.PixelData = np.rint(stored).clip(0, 65535).astype("<u2").tobytes()


def mirrored(values: Values, ds: Dataset) -> Values:
    """Mirror values about the window where the data set is MONOCHROME1."""
    if ds.PhotometricInterpretation == "MONOCHROME2":
        return values
    return 2 * float(ds.WindowCenter) - 1 - values


def tag_identity(ds: Dataset, identity: Identity) -> None:
    """Write the patient and the slice, with identifiers that depend on these alone."""
    patient = identity.patient_id
    ds.PatientName = f"PHANTOM^{patient}"
    ds.PatientID = patient
    ds.StudyInstanceUID = generate_uid(entropy_srcs=["study", patient])
    ds.SeriesInstanceUID = generate_uid(entropy_srcs=["series", patient])
    ds.FrameOfReferenceUID = generate_uid(entropy_srcs=["frame", patient])
    ds.SOPInstanceUID = generate_uid(entropy_srcs=["instance", patient, str(identity.index)])
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.InstanceNumber = identity.index + 1


def _describe(ds: Dataset) -> None:
    ds.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    ds.Manufacturer = "PHANTOM"
    ds.ManufacturerModelName = "medloop phantom"
    ds.ImageComments = "PHANTOM: a generated picture of no person"
    ds.StudyDescription = "PHANTOM"
    ds.SeriesNumber = 1
    for empty in (
        "StudyDate",
        "StudyTime",
        "StudyID",
        "AccessionNumber",
        "ReferringPhysicianName",
        "PatientBirthDate",
        "PatientSex",
        "PositionReferenceIndicator",
        "AcquisitionNumber",
        "PatientPosition",
        "Laterality",
    ):
        setattr(ds, empty, None)
    if ds.Modality == "CT":
        ds.KVP = None
    elif ds.Modality == "CR":
        ds.ViewPosition = None
    else:
        ds.ScanningSequence, ds.SequenceVariant, ds.ScanOptions = "RM", "NONE", None
        ds.MRAcquisitionType, ds.RepetitionTime, ds.EchoTime, ds.EchoTrainLength = "2D", None, None, None


def _place_slice(ds: Dataset, *, side: int, index: int) -> None:
    spacing = round(_FIELD_OF_VIEW_MM / side, 4)
    corner = round(-_FIELD_OF_VIEW_MM / 2, 1)
    ds.PixelSpacing = [spacing, spacing]
    ds.SliceThickness = _SLICE_MM
    ds.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    ds.ImagePositionPatient = [corner, corner, -_SLICE_MM * index]
