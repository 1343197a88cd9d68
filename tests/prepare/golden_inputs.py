"""The inputs whose preprocessing is held still; run as a module to write the golden file anew."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from medloop.decode.raster import DecodeRule, decode
from medloop.prepare.image import ImagePreparer
from tests.decode.dicom_files import dicom, ramp, shipped
from tests.decode.picture_files import colour, grey, jpeg, png, saved, with_orientation

GOLDEN = Path(__file__).parents[1] / "golden" / "prepare.json"

PREPARERS = {
    "pad grey": ImagePreparer(size=16),
    "stretch colour": ImagePreparer(size=(12, 20), channels=3, fit="stretch"),
    "crop grey, lung": ImagePreparer(size=16, fit="crop", rule=DecodeRule(window="lung")),
    "enlarged and shrunk, white, stretched": ImagePreparer(
        size=(8, 56), fit="stretch", rule=DecodeRule(background="white", sixteen_bit="stretch")
    ),
}


def inputs() -> dict[str, bytes]:
    """Makes the same files on every machine."""
    see_through = Image.fromarray(np.dstack([colour(48, 36), grey(48, 36)]))
    return {
        "grey png": png(grey(50, 33)),
        "colour png": png(colour(33, 50)),
        "transparent png": saved(see_through, "PNG"),
        "deep png": png(grey(50, 33).astype(np.uint16) * 200),
        "palette png": saved(Image.fromarray(colour(33, 50)).convert("1").convert("P"), "PNG"),
        "grey jpeg": jpeg(grey(50, 33)),
        "turned colour jpeg": with_orientation(jpeg(colour(33, 50)), 6),
        "bmp": saved(Image.fromarray(colour(33, 50)), "BMP"),
        "tiff": saved(Image.fromarray(grey(50, 33)), "TIFF"),
        "ct": dicom(ramp(50, 33, low=-1400, step=1), WindowCenter="-300", WindowWidth="1200"),
        "ct without window": dicom(ramp(50, 33, low=-1400, step=1)),
        "inverted ct": dicom(ramp(50, 33, low=-1400, step=1), PhotometricInterpretation="MONOCHROME1"),
        "real ct": shipped("CT_small.dcm"),
    }


def measure() -> dict[str, Any]:
    """Decodes and prepares every input in every way."""
    found: dict[str, Any] = {}
    for name, data in inputs().items():
        decoded = decode(data)
        entry: dict[str, Any] = {"decoded": hashlib.sha256(decoded.pixels.tobytes()).hexdigest()}
        for way, preparer in PREPARERS.items():
            entry[way] = base64.b64encode(preparer.prepare(data).tobytes()).decode()
        found[name] = entry
    return found


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(measure(), indent=1) + "\n", encoding="utf-8")
