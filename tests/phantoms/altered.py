"""Phantoms read back, and written again with another picture."""

from __future__ import annotations

import io
from collections.abc import Callable

import cv2
import numpy as np
from pydicom import dcmread
from pydicom.dataset import Dataset

from medloop.phantoms.dicom import mirrored, put_values, tag_identity, to_bytes
from medloop.phantoms.spec import Format, Identity, Pixels, Values, Window, to_grey
from medloop.phantoms.write import encode_picture

Change = Callable[[Values], Values]


def decode_picture(data: bytes) -> Pixels:
    """Grey levels of PNG, JPEG or DICOM bytes that this package wrote."""
    if data[128:132] == b"DICM":
        return decode_dicom(data)
    picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
    return np.asarray(picture, np.uint8)


def alter(data: bytes, form: Format, change: Change, *, identity: Identity) -> bytes:
    """The same file with its picture changed on a scale from 0 (black) to 1 (white)."""
    if form == "dicom":
        return alter_dicom(data, change, identity=identity)
    unit = np.asarray(decode_picture(data), np.float32) / np.float32(255)
    return encode_picture(to_grey(change(unit)), form)


def decode_dicom(data: bytes) -> Pixels:
    """Grey levels of what encode_dicom wrote, as its window shows them."""
    ds = dcmread(io.BytesIO(data))
    return _window_of(ds).to_pixels(_get_values(ds))


def alter_dicom(data: bytes, change: Callable[[Values], Values], *, identity: Identity) -> bytes:
    """The same file with its picture changed between black (0) and white (1), and its identity."""
    ds = dcmread(io.BytesIO(data))
    window = _window_of(ds)
    put_values(ds, window.to_values(change(window.to_unit(_get_values(ds)))))
    tag_identity(ds, identity)
    return to_bytes(ds)


def _window_of(ds: Dataset) -> Window:
    return Window(centre=int(ds.WindowCenter), width=int(ds.WindowWidth))


def _get_values(ds: Dataset) -> Values:
    """The measured values, MONOCHROME1 undone."""
    values = ds.pixel_array.astype(np.float32) * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
    return mirrored(values, ds)
