from __future__ import annotations

import numpy as np
import pytest

from medloop.decode.window import SAMPLE, by_table, scale, spread, window


def test_the_linear_window_follows_the_standard() -> None:
    # PS3.3 C.11.2.1.2.1: centre 2048, width 4096 maps 0 to 4095 on the whole range.
    values = np.array([-5.0, 0.0, 2047.0, 2048.0, 4095.0, 9999.0])
    np.testing.assert_array_equal(window(values, 2048, 4096), [0, 0, 127, 128, 255, 255])


def test_a_width_of_one_is_a_threshold() -> None:
    np.testing.assert_array_equal(window(np.array([99.0, 100.0]), 100, 1), [0, 255])


def test_the_exact_window_ends_where_it_says() -> None:
    np.testing.assert_array_equal(window(np.array([0.0, 0.5, 1.0]), 0.5, 1.0, "LINEAR_EXACT"), [0, 128, 255])


def test_the_sigmoid_window_is_half_at_its_centre_and_bounded() -> None:
    np.testing.assert_array_equal(window(np.array([-1e9, 40.0, 1e9]), 40, 80, "SIGMOID"), [0, 128, 255])


def test_a_few_odd_pixels_do_not_move_the_spread() -> None:
    values = np.linspace(0, 1000, 10_000)
    values[:3] = 1e9
    low, high = spread(values)
    assert low == pytest.approx(5, abs=2)
    assert high == pytest.approx(995, abs=2)


def test_the_spread_leaves_out_what_is_no_number() -> None:
    assert spread(np.array([np.nan, np.inf, 3.0, 3.0])) == (3.0, 3.0)
    assert spread(np.array([np.nan])) == (0.0, 0.0)


def test_a_large_picture_is_sampled() -> None:
    values = np.arange(3 * SAMPLE, dtype=np.int32)
    assert spread(values) == pytest.approx((0.005 * 3 * SAMPLE, 0.995 * 3 * SAMPLE), rel=1e-3)


def test_a_picture_of_one_value_becomes_black() -> None:
    assert scale(np.full((2, 2), 7.0), 7, 7).max() == 0


def test_what_is_no_number_becomes_black() -> None:
    np.testing.assert_array_equal(scale(np.array([np.nan, -np.inf, np.inf, 1.0]), 0, 1), [0, 0, 255, 255])


@pytest.mark.parametrize("kind", [np.int16, np.uint16, np.uint8, np.int32, ">i2", "<f8"])
def test_a_table_gives_what_the_tone_gives(kind: str) -> None:
    values = np.random.default_rng(3).integers(0, 200, (9, 11)) * (1 if kind == np.uint8 else 150)
    stored = values.astype(kind)
    expected = window(stored.astype(np.float64), 9000, 20_000)
    np.testing.assert_array_equal(by_table(stored, lambda v: window(v, 9000, 20_000)), expected)


def test_a_table_spans_the_whole_signed_range() -> None:
    stored = np.array([-32768, -1, 0, 32767], np.int16)
    np.testing.assert_array_equal(by_table(stored, lambda v: scale(v, -32768, 32767)), [0, 127, 128, 255])
