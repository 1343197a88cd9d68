from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import UID

from medloop.decode.dicom.picture import _BY_GDCM
from medloop.decode.raster import DecodeLimits, DecodeRule, decode
from medloop.decode.rule import WINDOWS
from medloop.errors import RejectedInput
from tests.decode.dicom_files import J2K, RLE, Value, dicom, element, encapsulated, item, part10, ramp, shipped

HOUNSFIELD = ramp()
WINDOWED: dict[str, Value] = {"WindowCenter": "0", "WindowWidth": "2000"}


def linear(values: np.ndarray, centre: float, width: float) -> np.ndarray:
    share = (values - (centre - 0.5)) / (width - 1) + 0.5
    return np.floor(np.clip(share, 0, 1) * 255 + 0.5)


def test_stored_values_are_rescaled_and_windowed() -> None:
    data = dicom(HOUNSFIELD, RescaleSlope="2", RescaleIntercept="-100", **WINDOWED)
    np.testing.assert_array_equal(decode(data).pixels, linear(HOUNSFIELD * 2.0 - 100, 0, 2000))


@pytest.mark.parametrize("name", WINDOWS)
def test_a_named_window_replaces_that_of_the_file(name: str) -> None:
    decoded = decode(dicom(HOUNSFIELD, **WINDOWED), rule=DecodeRule(window=name))
    np.testing.assert_array_equal(decoded.pixels, linear(HOUNSFIELD, *WINDOWS[name]))


def test_a_window_of_numbers_is_taken() -> None:
    decoded = decode(dicom(HOUNSFIELD, Modality="MR"), rule=DecodeRule(window=(100, 300)))
    np.testing.assert_array_equal(decoded.pixels, linear(HOUNSFIELD, 100, 300))


def test_a_window_in_hounsfield_units_refuses_other_modalities() -> None:
    with pytest.raises(RejectedInput, match="not a CT image"):
        decode(dicom(HOUNSFIELD, Modality="MR"), rule=DecodeRule(window="lung"))


def test_the_first_of_several_windows_is_taken() -> None:
    data = dicom(HOUNSFIELD, WindowCenter="0\\40", WindowWidth="2000\\400")
    np.testing.assert_array_equal(decode(data).pixels, linear(HOUNSFIELD, 0, 2000))


def test_a_missing_window_falls_back_to_percentiles() -> None:
    low, high = np.percentile(HOUNSFIELD, (0.5, 99.5))
    expected = np.clip((HOUNSFIELD - low) / (high - low), 0, 1) * 255
    np.testing.assert_allclose(decode(dicom(HOUNSFIELD)).pixels, expected, atol=0.51)


@pytest.mark.parametrize("width", ["0", "-5", "NaN", "wide"])
def test_an_impossible_window_counts_as_missing(width: str) -> None:
    data = dicom(HOUNSFIELD, WindowCenter="0", WindowWidth=width)
    np.testing.assert_array_equal(decode(data).pixels, decode(dicom(HOUNSFIELD)).pixels)
    with pytest.raises(RejectedInput, match="no window of its own"):
        decode(data, rule=DecodeRule(window="from file"))


def test_eight_bits_without_a_window_stay_as_stored() -> None:
    stored = np.arange(100, 200, dtype=np.uint8).reshape(10, 10)
    np.testing.assert_array_equal(decode(dicom(stored, Modality="OT")).pixels, stored)


def test_monochrome1_is_inverted() -> None:
    normal = decode(dicom(HOUNSFIELD, **WINDOWED)).pixels
    inverted = decode(dicom(HOUNSFIELD, PhotometricInterpretation="MONOCHROME1", **WINDOWED))
    np.testing.assert_array_equal(inverted.pixels, 255 - normal)
    assert inverted.mode == "MONOCHROME1"


@pytest.mark.parametrize("kind", [np.uint16, np.int16])
def test_bits_above_the_stored_ones_are_left_out(kind: type[np.uint16]) -> None:
    clean = (np.arange(256).reshape(16, 16) * (8 if kind is np.uint16 else -8)).astype(kind)
    dirty = ((clean & 0x0FFF) | 0x5000).astype(kind)
    changes: dict[str, Value] = {"BitsStored": 12, "HighBit": 11, **WINDOWED}
    np.testing.assert_array_equal(decode(dicom(dirty, **changes)).pixels, decode(dicom(clean, **changes)).pixels)


def test_a_voi_table_of_the_file_is_applied() -> None:
    stored = np.arange(256, dtype=np.uint8).reshape(16, 16)
    table = np.arange(255, -1, -1).astype("<u2") * 257
    entry = element("LUTDescriptor", [256, 0, 16]) + element("LUTData", table.tobytes())
    decoded = decode(dicom(stored, Modality="OT", VOILUTSequence=item(entry)))
    np.testing.assert_array_equal(decoded.pixels, 255 - stored)


def test_palette_colours_are_looked_up() -> None:
    stored = np.arange(16, dtype=np.uint8).reshape(4, 4)
    ramps = {"Red": np.arange(16) * 4096, "Green": 65535 - np.arange(16) * 4096, "Blue": np.full(16, 512)}
    tables: dict[str, Value] = {}
    for colour, values in ramps.items():
        tables[f"{colour}PaletteColorLookupTableDescriptor"] = [16, 0, 16]
        tables[f"{colour}PaletteColorLookupTableData"] = values.astype("<u2").tobytes()
    decoded = decode(dicom(stored, PhotometricInterpretation="PALETTE COLOR", **tables))
    expected = np.stack([values.astype(np.uint16) >> 8 for values in ramps.values()], axis=-1).reshape(4, 4, 3)
    np.testing.assert_array_equal(decoded.pixels, expected)


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_colours_of_any_depth_keep_their_upper_bits(kind: type[np.uint8]) -> None:
    stored = (np.arange(300).reshape(10, 10, 3) * (65535 // 300)).astype(np.uint16)
    stored = stored if kind is np.uint16 else stored >> 8
    expected = stored >> 8 if kind is np.uint16 else stored
    np.testing.assert_array_equal(decode(dicom(stored.astype(kind))).pixels, expected)


def test_the_frame_is_chosen_by_the_rule() -> None:
    frames = np.stack([HOUNSFIELD + 100 * n for n in range(4)])
    data = dicom(HOUNSFIELD, PixelData=frames.tobytes(), NumberOfFrames="4", **WINDOWED)
    with pytest.raises(RejectedInput, match="4 frames"):
        decode(data)
    for frame, index in (("first", 0), ("middle", 2)):
        decoded = decode(data, rule=DecodeRule.from_json({"frame": frame}))
        np.testing.assert_array_equal(decoded.pixels, linear(frames[index], 0, 2000))
    with pytest.raises(RejectedInput, match="more than 3 frames"):
        decode(data, rule=DecodeRule(frame="first"), limits=DecodeLimits(max_dicom_frames=3))


def test_functional_groups_bring_the_rescale_of_their_frame() -> None:
    frames = np.stack([HOUNSFIELD, HOUNSFIELD])
    groups = b""
    for slope in ("1", "3"):
        values = item(element("RescaleIntercept", "5") + element("RescaleSlope", slope))
        groups += item(element("PixelValueTransformationSequence", values))
    data = dicom(
        HOUNSFIELD,
        PixelData=frames.tobytes(),
        NumberOfFrames="2",
        PerFrameFunctionalGroupsSequence=groups,
        **WINDOWED,
    )
    decoded = decode(data, rule=DecodeRule(frame="middle"))
    np.testing.assert_array_equal(decoded.pixels, linear(HOUNSFIELD * 3.0 + 5, 0, 2000))
    assert decoded.meta["RescaleSlope"] == 3.0


MR = ("implicit", "bigendian", "expb", "RLE", "jp2klossless", "jpeg_ls_lossless")


@pytest.mark.parametrize("syntax", MR)
def test_one_picture_is_the_same_in_every_transfer_syntax(syntax: str) -> None:
    expected = decode(shipped("MR_small.dcm")).pixels
    np.testing.assert_array_equal(decode(shipped(f"MR_small_{syntax}.dcm")).pixels, expected)


OTHERS = {
    "SC_rgb_jpeg_dcmtk.dcm": ("YBR_FULL", (100, 100, 3)),
    "SC_rgb_rle_16bit_2frame.dcm": ("RGB", (100, 100, 3)),
    "SC_ybr_full_422_uncompressed.dcm": ("YBR_FULL_422", (100, 100, 3)),
    "SC_rgb_jls_lossy_line.dcm": ("RGB", (100, 100, 3)),
    "SC_rgb_jpeg_gdcm.dcm": ("RGB", (100, 100, 3)),
    "SC_rgb_gdcm_KY.dcm": ("RGB", (100, 100, 3)),
    "GDCMJ2K_TextGBR.dcm": ("YBR_RCT", (400, 400, 3)),
    "examples_palette.dcm": ("PALETTE COLOR", (350, 800, 3)),
    "JPEGLSNearLossless_16.dcm": ("MONOCHROME2", (50, 10)),
    "693_J2KI.dcm": ("MONOCHROME2", (512, 512)),
    "image_dfl.dcm": ("MONOCHROME2", (512, 512)),
    "rtdose_rle.dcm": ("MONOCHROME2", (10, 10)),
    "liver_1frame.dcm": ("MONOCHROME2", (512, 512)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_real_files_of_other_kinds_decode(name: str) -> None:
    decoded = decode(shipped(name), rule=DecodeRule(frame="first"))
    assert (decoded.mode, decoded.pixels.shape) == OTHERS[name]
    assert decoded.pixels.min() < decoded.pixels.max()


def test_colours_of_a_lossy_file_are_true() -> None:
    # Its first row of patches is pure red.
    red = decode(shipped("SC_rgb_jpeg_dcmtk.dcm")).pixels[5, 5]
    assert red[0] > 240
    assert red[1:].max() < 15


REFUSED = {
    "reportsi.dcm": "no pixel data",
    "JPEG-lossy.dcm": r"No decoder can read .* \(JPEG Extended",
    "MR_truncated.dcm": "Malformed DICOM: a length points past the end",
    "badVR.dcm": "Malformed DICOM: NumberOfFrames",
    "meta_missing_tsyntax.dcm": "Malformed DICOM: no transfer syntax",
    "no_meta.dcm": "not in a known image format",
}


@pytest.mark.parametrize("name", REFUSED)
def test_real_broken_files_are_refused_by_reason(name: str) -> None:
    with pytest.raises(RejectedInput, match=REFUSED[name]):
        decode(shipped(name))


MALFORMED: dict[str, dict[str, Value | None]] = {
    "no rows": {"Rows": None},
    "zero rows": {"Rows": 0},
    "two values of rows": {"Rows": [16, 16]},
    "65,535 x 65,535": {"Rows": 65535, "Columns": 65535},
    "fewer pixels": {"PixelData": HOUNSFIELD.tobytes()[:-2]},
    "more pixels": {"PixelData": HOUNSFIELD.tobytes() + b"\0\0"},
    "no pixels": {"PixelData": b""},
    "1 bit allocated": {"BitsAllocated": 1},
    "1 bit allocated and stored": {"BitsAllocated": 1, "BitsStored": 1, "HighBit": 0},
    "12 bits allocated": {"BitsAllocated": 12, "BitsStored": 12, "HighBit": 11},
    "2048 bits allocated": {"BitsAllocated": 2048},
    "0 bits stored": {"BitsStored": 0},
    "17 bits stored": {"BitsStored": 17, "HighBit": 16},
    "high bit too high": {"BitsStored": 12, "HighBit": 15},
    "2 samples": {"SamplesPerPixel": 2},
    "3 samples of grey": {"SamplesPerPixel": 3},
    "no photometric": {"PhotometricInterpretation": None},
    "unknown photometric": {"PhotometricInterpretation": "MONOCHROME3"},
    "neither signed nor unsigned": {"PixelRepresentation": 7},
    "no sign": {"PixelRepresentation": None},
    "no frames": {"NumberOfFrames": "0"},
    "frames in words": {"NumberOfFrames": "two"},
    "slope 0": {"RescaleSlope": "0", "RescaleIntercept": "0"},
    "slope NaN": {"RescaleSlope": "NaN", "RescaleIntercept": "0"},
    "slope infinite": {"RescaleSlope": "1e999", "RescaleIntercept": "0"},
    "slope in words": {"RescaleSlope": "steep", "RescaleIntercept": "0"},
    "intercept NaN": {"RescaleSlope": "1", "RescaleIntercept": "nan"},
    "palette without tables": {"PhotometricInterpretation": "PALETTE COLOR"},
    "voi table without data": {"VOILUTSequence": item(element("LUTDescriptor", [256, 0, 16]))},
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_headers_are_refused_as_such(name: str) -> None:
    with pytest.raises(RejectedInput, match="Malformed DICOM: "):
        decode(dicom(HOUNSFIELD, **MALFORMED[name]))


def test_a_stream_of_another_size_than_declared_is_malformed() -> None:
    whole = shipped("MR_small_jp2klossless.dcm")
    rows = b"\x28\x00\x10\x00US\x02\x00"
    data = whole.replace(rows + b"\x40\x00", rows + b"\x41\x00")
    assert data != whole
    with pytest.raises(RejectedInput, match="Malformed DICOM: a stream of 64 x 64 pixels where 64 x 65"):
        decode(data)


def test_many_declared_pixels_are_refused_before_a_decoder_sees_them() -> None:
    data = dicom(HOUNSFIELD, syntax=RLE, PixelData=None, Rows=65535, Columns=65535, tail=encapsulated([b"\1" * 100]))
    with pytest.raises(RejectedInput, match="65,535 x 65,535 pixels"):
        decode(data)


@pytest.mark.parametrize(
    "data",
    [
        dicom(HOUNSFIELD, syntax=J2K),
        dicom(HOUNSFIELD, tail=encapsulated([HOUNSFIELD.tobytes()])),
        dicom(HOUNSFIELD, syntax=J2K, tail=encapsulated([])),
        dicom(HOUNSFIELD, syntax=J2K, tail=encapsulated([b"\xff\x4f\xff\x51\0\0"])),
        dicom(HOUNSFIELD, syntax="1.2.3.4"),
        part10(b""),
    ],
    ids=["not encapsulated", "encapsulated", "no fragments", "no stream", "unknown syntax", "nothing"],
)
def test_pixel_data_in_another_form_than_named_are_refused(data: bytes) -> None:
    with pytest.raises(RejectedInput):
        decode(data)


@pytest.mark.parametrize("name", ["MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_RLE.dcm"])
def test_a_compressed_file_cut_at_every_percent_is_refused(name: str) -> None:
    whole = shipped(name)
    end = whole.rindex(b"\xfe\xff\xdd\xe0") + 8
    for percent in range(100):
        with pytest.raises(RejectedInput):
            decode(whole[: end * percent // 100])


@pytest.mark.parametrize("name", ["MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_RLE.dcm"])
def test_a_stream_that_was_cut_before_it_was_wrapped_is_refused(name: str) -> None:
    whole = shipped(name)
    start = whole.index(b"\xe0\x7f\x10\x00O")
    first = whole.index(b"\xfe\xff\x00\xe0", start + 16)
    stream = whole[first + 8 : whole.rindex(b"\xfe\xff\xdd\xe0")]
    assert decode(whole[:start] + encapsulated([stream])).pixels.size
    for percent in range(0, 100, 5):
        with pytest.raises(RejectedInput):
            decode(whole[:start] + encapsulated([stream[: len(stream) * percent // 100]]))


PLANTED = ("DOE^JANE", "JANE", "MRN-4711", "19520304", "ST. ELSEWHERE", "SECRET-NOTE", "1.2.3.4711.1", "1.2.3.4711.2")
WITH_PATIENT = dicom(
    HOUNSFIELD,
    PatientName="DOE^JANE",
    PatientID="MRN-4711",
    PatientBirthDate="19520304",
    StudyDate="19520304",
    PatientSex="F",
    PatientAge="063Y",
    InstitutionName="ST. ELSEWHERE",
    PrivateCreator="SECRET-NOTE",
    PrivateValue="DOE^JANE",
    ReferencedStudySequence=item(element("PatientName", "DOE^JANE") + element("PatientID", "MRN-4711")),
    StudyInstanceUID="1.2.3.4711.1",
    SeriesInstanceUID="1.2.3.4711.2",
    **WINDOWED,
)


def test_nothing_of_the_patient_is_in_the_result() -> None:
    decoded = decode(WITH_PATIENT, patient_key=b"key")
    said = repr(decoded)
    assert not [word for word in PLANTED if word in said]
    assert decoded.meta["PatientAge"] == "60-69"
    assert decoded.meta["PatientSex"] == "F"
    assert {len(hashed or "") for hashed in (decoded.patient, decoded.study, decoded.series)} == {64}


def test_one_patient_stays_one_patient_and_others_stay_apart() -> None:
    first = decode(WITH_PATIENT, patient_key=b"key").patient
    assert decode(dicom(HOUNSFIELD, PatientID=" MRN-4711"), patient_key=b"key").patient == first
    assert decode(dicom(HOUNSFIELD, PatientID="MRN-4712"), patient_key=b"key").patient != first
    assert decode(WITH_PATIENT, patient_key=b"other").patient != first
    assert decode(WITH_PATIENT).patient is None
    assert decode(dicom(HOUNSFIELD, PatientID=""), patient_key=b"key").patient is None


TEXTS = ("RescaleSlope", "WindowWidth", "NumberOfFrames", "Modality", "PhotometricInterpretation")


@pytest.mark.parametrize("number", ["DOE^JANE", "MRN-4711"])
@pytest.mark.parametrize(
    "tag", ["RescaleSlope", "WindowWidth", "NumberOfFrames", "Modality", "PhotometricInterpretation"]
)
def test_no_error_or_log_quotes_the_file(
    tag: str, number: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    said = ""
    with caplog.at_level(logging.DEBUG):
        try:
            said = repr(decode(dicom(HOUNSFIELD, **{tag: number})))
        except RejectedInput as refusal:
            said = str(refusal) + repr(refusal.__cause__) + repr(refusal.__context__)
    output = capfd.readouterr()
    assert number not in said + caplog.text + output.out + output.err


# Syntaxes that gdcm reads first and others read, too: JPEG, and JPEG 2000 without and with loss.
ALSO_BY_GDCM = {f"1.2.840.10008.1.2.4.{number}" for number in (50, 90, 91)}


@contextmanager
def without_gdcm() -> Iterator[None]:
    """The decoders as they are where only the core is installed."""
    decoders = [get_decoder(UID(syntax)) for syntax in sorted(_BY_GDCM | ALSO_BY_GDCM)]
    for decoder in decoders:
        decoder.remove_plugin("gdcm")
    try:
        yield
    finally:
        for decoder in decoders:
            decoder.add_plugin("gdcm", ("pydicom.pixels.decoders.gdcm", "_decode_frame"))


@pytest.mark.parametrize("name", ["SC_rgb_jpeg_gdcm.dcm", "MR_small_jpeg_ls_lossless.dcm", "JPEGLSNearLossless_08.dcm"])
def test_a_file_that_needs_gdcm_is_refused_by_that_name_where_it_is_absent(name: str) -> None:
    with (
        without_gdcm(),
        pytest.raises(RejectedInput, match="Lossless JPEG and JPEG-LS in a DICOM file need gdcm") as caught,
    ):
        decode(shipped(name))
    assert 'pip install "medloop[dicom]"' in caught.value.hint
    assert decode(shipped(name)).pixels.size


@pytest.mark.parametrize(
    "name", ["SC_rgb_jpeg_dcmtk.dcm", "SC_rgb_dcmtk_+eb+cy+s4.dcm", "JPEG2000.dcm", "693_J2KI.dcm"]
)
def test_other_files_give_the_same_pixels_with_gdcm_and_without(name: str) -> None:
    pixels = decode(shipped(name)).pixels
    with without_gdcm():
        np.testing.assert_array_equal(decode(shipped(name)).pixels, pixels)
