from __future__ import annotations

import base64
import json

import numpy as np
import pytest

from medloop.decode.pool import Sandbox
from medloop.decode.raster import DecodeRule, decode
from medloop.errors import RejectedInput, UnknownName, UserError
from medloop.prepare.image import ImagePreparer
from tests.decode.dicom_files import dicom, ramp
from tests.decode.picture_files import colour, grey, png
from tests.prepare.golden_inputs import GOLDEN, PREPARERS, inputs, measure


@pytest.mark.parametrize("fit", ["pad", "stretch", "crop"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("pixels", [grey(9, 200), colour(200, 9), grey(64, 64), colour(8, 8)])
def test_every_picture_becomes_the_one_shape(pixels: np.ndarray, channels: int, fit: str) -> None:
    preparer = ImagePreparer.from_json(
        {"size": [40, 24], "channels": channels, "fit": fit, "rule": DecodeRule().to_json()}
    )
    array = preparer.prepare(png(pixels))
    assert array.shape == preparer.shape == (40, 24, channels)
    assert array.dtype == np.uint8
    assert array.flags.c_contiguous


def test_a_picture_of_the_right_size_is_not_touched() -> None:
    for fit in ("pad", "stretch", "crop"):
        preparer = ImagePreparer.from_json({"size": 24, "channels": 1, "fit": fit, "rule": DecodeRule().to_json()})
        np.testing.assert_array_equal(preparer.prepare(png(grey(24, 24)))[..., 0], grey(24, 24))


def test_padding_is_black_and_even_and_keeps_proportions() -> None:
    array = ImagePreparer(size=32).prepare(png(np.full((20, 40), 200, np.uint8)))[..., 0]
    assert array[:8].max() == 0
    assert array[24:].max() == 0
    assert (array[8:24] == 200).all()


def test_a_crop_is_the_centre() -> None:
    wide = np.zeros((20, 60), np.uint8)
    wide[:, 20:40] = 200
    assert (ImagePreparer(size=20, fit="crop").prepare(png(wide)) == 200).all()


def test_stretching_keeps_all_of_the_picture() -> None:
    halves = np.zeros((20, 80), np.uint8)
    halves[:, 40:] = 200
    array = ImagePreparer(size=16, fit="stretch").prepare(png(halves))[..., 0]
    assert array[:, :8].max() == 0
    assert array[:, 8:].min() == 200


def test_a_small_bright_spot_survives_shrinking() -> None:
    spot = np.zeros((256, 256), np.uint8)
    spot[101:105, 150:154] = 255
    array = ImagePreparer(size=64).prepare(png(spot))
    assert int(array.astype(int).sum()) == pytest.approx(255, abs=3)


def test_grey_in_three_channels_is_the_same_in_each() -> None:
    array = ImagePreparer(size=20, channels=3).prepare(png(grey()))
    one = ImagePreparer(size=20, channels=1).prepare(png(grey()))
    np.testing.assert_array_equal(array, np.repeat(one, 3, axis=2))


@pytest.mark.parametrize("fit", ["pad", "stretch", "crop"])
@pytest.mark.parametrize("channels", [1, 3])
def test_how_grey_was_stored_changes_nothing(channels: int, fit: str) -> None:
    preparer = ImagePreparer.from_json({"size": 40, "channels": channels, "fit": fit, "rule": DecodeRule().to_json()})
    once, thrice = (preparer.prepare(png(pixels)) for pixels in (grey(77, 61), np.dstack([grey(77, 61)] * 3)))
    np.testing.assert_array_equal(once, thrice)


def test_colour_becomes_grey_by_its_brightness() -> None:
    pure = np.zeros((16, 48, 3), np.uint8)
    for channel in range(3):
        pure[:, 16 * channel : 16 * channel + 16, channel] = 255
    array = ImagePreparer(size=(16, 48)).prepare(png(pure))[0, ::16, 0]
    np.testing.assert_array_equal(array, [76, 150, 29])


def test_the_rule_reaches_the_decoder() -> None:
    data = dicom(ramp(24, 24))
    lung = ImagePreparer(size=24, rule=DecodeRule(window="lung")).prepare(data)
    np.testing.assert_array_equal(lung[..., 0], decode(data, rule=DecodeRule(window="lung")).pixels)


def test_a_sandbox_may_decode() -> None:
    preparer = ImagePreparer(size=24)
    with Sandbox(seconds=20) as sandbox:
        array = preparer.prepare(dicom(ramp()), decoder=sandbox.decode)
    np.testing.assert_array_equal(array, preparer.prepare(dicom(ramp())))


def test_what_cannot_be_decoded_cannot_be_prepared() -> None:
    with pytest.raises(RejectedInput):
        ImagePreparer(size=24).prepare(b"%PDF-1.7")


@pytest.mark.parametrize("preparer", [*PREPARERS.values(), ImagePreparer(rule=DecodeRule(window=(40, 400)))])
def test_a_preparer_survives_json(preparer: ImagePreparer) -> None:
    assert ImagePreparer.from_json(json.loads(json.dumps(preparer.to_json()))) == preparer


@pytest.mark.parametrize(
    ("field", "value"),
    [("size", 0), ("size", [224]), ("size", [224, 5000]), ("size", "224"), ("channels", 2), ("fit", "squeeze")],
)
def test_an_impossible_preparer_is_refused(field: str, value: object) -> None:
    with pytest.raises(UserError):
        ImagePreparer.from_json({**ImagePreparer().to_json(), field: value})


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(UnknownName, match="mean"):
        ImagePreparer.from_json({**ImagePreparer().to_json(), "mean": 0.5})


@pytest.mark.parametrize("name", inputs())
def test_preprocessing_is_the_golden_one(name: str) -> None:
    # After an intended change: python -m tests.prepare.golden_inputs
    golden, found = json.loads(GOLDEN.read_text(encoding="utf-8"))[name], measure()[name]
    assert found["decoded"] == golden["decoded"]
    for way in PREPARERS:
        before, after = (np.frombuffer(base64.b64decode(entry[way]), np.uint8).astype(int) for entry in (golden, found))
        # Processors round the last bit of a resize differently; anything more is a change.
        assert before.shape == after.shape
        assert np.abs(before - after).max() <= 1


def test_the_golden_file_holds_the_inputs_and_no_others() -> None:
    assert set(json.loads(GOLDEN.read_text(encoding="utf-8"))) == set(inputs())
