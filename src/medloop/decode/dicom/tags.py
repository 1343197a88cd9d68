"""The few DICOM tags that are read, and the fewer that may be kept."""

from __future__ import annotations

import hashlib
import hmac
import math
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from medloop.case import folded_id
from medloop.decode.rule import Decoded, Meta

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_CODE = re.compile(r"[A-Z0-9][A-Z0-9 _]{0,15}")
_TEXT = re.compile(r"[\w .,:;/+()\-]{1,64}", re.ASCII)
_DECADES = 10


def finite_number(value: object) -> float | None:
    """Return the finite number that a value of a tag is or spells, if it does."""
    try:
        number = float(str(value))
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _numbers(value: object) -> float | list[float] | None:
    values = list(value) if isinstance(value, Iterable) and not isinstance(value, (str, bytes)) else [value]
    numbers = [number for number in map(finite_number, values) if number is not None]
    if not numbers or len(numbers) < len(values) or len(numbers) > 16:
        return None
    return numbers[0] if len(numbers) == 1 else numbers


def _whole(value: object) -> int | None:
    number = finite_number(value)
    return int(number) if number is not None and number == int(number) else None


def _code(value: object) -> str | None:
    """Return a coded string; anything that does not look like a code could be a person's name in the wrong place."""
    text = str(value).strip()
    return text if _CODE.fullmatch(text) else None


def _plain_text(value: object) -> str | None:
    text = str(value).strip()
    return text if _TEXT.fullmatch(text) else None


def _sex(value: object) -> str | None:
    return str(value) if str(value) in ("M", "F", "O") else None


def _age(value: object) -> str | None:
    """Return a band of ten years; above 89 an age alone can identify a person."""
    match = re.fullmatch(r"(\d{3})([DWMY])", str(value).strip())
    if match is None:
        return None
    years = int(int(match[1]) / {"D": 365.25, "W": 52.18, "M": 12.0, "Y": 1.0}[match[2]])
    low = years // _DECADES * _DECADES
    return "90+" if low >= 90 else f"{low}-{low + 9}"


Keeper = Callable[[object], str | int | float | list[float] | None]
# The allow-list: nothing else of a header reaches any file, log or message.
KEPT: dict[str, Keeper] = {
    "Modality": _code,
    "PhotometricInterpretation": _code,
    "SamplesPerPixel": _whole,
    "Rows": _whole,
    "Columns": _whole,
    "NumberOfFrames": _whole,
    "BitsAllocated": _whole,
    "BitsStored": _whole,
    "WindowCenter": _numbers,
    "WindowWidth": _numbers,
    "RescaleSlope": _numbers,
    "RescaleIntercept": _numbers,
    "PixelSpacing": _numbers,
    "ImagerPixelSpacing": _numbers,
    "SliceThickness": _numbers,
    "SpacingBetweenSlices": _numbers,
    "KVP": _numbers,
    "ConvolutionKernel": _plain_text,
    "BodyPartExamined": _code,
    "Laterality": _code,
    "ViewPosition": _code,
    "LossyImageCompression": _code,
    "BurnedInAnnotation": _code,
    "Manufacturer": _plain_text,
    "ManufacturerModelName": _plain_text,
    "PatientSex": _sex,
    "PatientAge": _age,
}
# Needed to decode the picture, and then dropped.
USED = (
    *("HighBit", "PixelRepresentation", "PlanarConfiguration", "PixelPaddingValue", "VOILUTFunction"),
    *("ModalityLUTSequence", "VOILUTSequence", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
    *("RedPaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData"),
    *("GreenPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableData"),
    *("BluePaletteColorLookupTableDescriptor", "BluePaletteColorLookupTableData"),
    *("SegmentedRedPaletteColorLookupTableData", "SegmentedGreenPaletteColorLookupTableData"),
    *("SegmentedBluePaletteColorLookupTableData", "PaletteColorLookupTableUID"),
    *("ExtendedOffsetTable", "ExtendedOffsetTableLengths"),
    *("PixelData", "FloatPixelData", "DoubleFloatPixelData"),
)
IDENTIFIERS = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")


@dataclass(frozen=True, kw_only=True, slots=True)
class Identifiers:
    """The identifiers of the patient, study and series; outside the decoder they are replaced by keyed hashes."""

    patient: str = field(default="", repr=False)
    study: str = field(default="", repr=False)
    series: str = field(default="", repr=False)

    @classmethod
    def of(cls, dataset: Dataset) -> Identifiers:
        """Read the identifiers from a data set; blanks are no identifier."""
        patient, study, series = (str(dataset.get(name) or "").strip(" \x00") for name in IDENTIFIERS)
        return cls(patient=patient, study=study, series=series)

    def attach(self, decoded: Decoded, key: bytes | None) -> Decoded:
        """Return the decoded picture with keyed hashes; without a key no identifier is kept."""
        return decoded._replace(
            patient=keyed_hash(self.patient, key),
            patient_alike=keyed_hash(folded_id(self.patient), key),
            study=keyed_hash(self.study, key),
            series=keyed_hash(self.series, key),
        )


def keyed_hash(value: str, key: bytes | None) -> str | None:
    """Return a hash of an identifier that only the holder of the key can compute again."""
    if key is None or not value:
        return None
    return hmac.new(key, value.encode(), hashlib.sha256).hexdigest()


def reduce_header(lookup: Callable[[str], Any]) -> Meta:
    """Return the tags of the allow-list whose values have the form that the tag should have."""
    found = ((name, keep, lookup(name)) for name, keep in KEPT.items())
    kept = ((name, keep(value)) for name, keep, value in found if value is not None)
    return {name: value for name, value in kept if value is not None}


def frame_values(dataset: Dataset, index: int) -> Callable[[str], Any]:
    """Return a lookup that finds a tag at the top level or in the functional groups of one frame."""
    values: dict[str, Any] = {}
    for group in _groups(dataset, index):
        for element in group:
            if element.VR == "SQ" and element.value:
                values.update({inner.keyword: inner.value for inner in element.value[0] if inner.VR != "SQ"})

    def lookup(name: str) -> Any:
        # In enhanced objects the value of the frame takes precedence.
        found = values.get(name, dataset.get(name))
        return None if found == "" else found

    return lookup


def _groups(dataset: Dataset, index: int) -> Iterator[Dataset]:
    for name, place in (("SharedFunctionalGroupsSequence", 0), ("PerFrameFunctionalGroupsSequence", index)):
        items = dataset.get(name)
        if items and place < len(items):
            yield items[place]
