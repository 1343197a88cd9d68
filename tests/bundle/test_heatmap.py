"""The colours lie where the map says, on a PNG that can be looked at."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from medloop.bundle.heatmap import MIN_SIDE, FloatArray, evidence, overlay


def peaked(row: int, column: int, *, side: int = 6) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Two classes' maps; the second has its peak at one place."""
    cam = np.zeros((2, side, side), np.float32)
    cam[1, row, column] = 5
    return cam


def seen(cam: np.ndarray[tuple[int, ...], np.dtype[np.float32]], choice: int) -> FloatArray:
    return evidence(cam, choice, against=[1 - choice], height=6, width=6)


@pytest.mark.parametrize(("row", "column"), [(0, 0), (1, 4), (5, 2)])
def test_the_peak_stays_where_the_map_has_it(row: int, column: int) -> None:
    shown = evidence(peaked(row, column), 1, against=[0], height=48, width=96)
    assert shown.shape == (48, 96)
    assert (shown.min(), shown.max()) == (0, 1)
    found = np.unravel_index(shown.argmax(), shown.shape)
    assert (found[0] // 8, found[1] // 16) == (row, column)


def test_what_speaks_for_every_class_alike_speaks_for_none() -> None:
    cam = peaked(1, 4)
    common = np.zeros_like(cam)
    common[:, 5, 0] = 100
    assert seen(cam + common, 1) == pytest.approx(seen(cam, 1), abs=1e-5)


def test_a_class_against_which_a_place_speaks_is_least_there() -> None:
    shown = seen(peaked(2, 2), 0)
    assert shown[2, 2] == 0
    assert shown[0, 5] > 0.95


def test_a_finding_is_shown_against_no_finding_and_not_against_other_findings() -> None:
    cam = np.zeros((3, 6, 6), np.float32)
    cam[1:, 4, 4] = 5
    cam[1, 0, 0] = 1
    shown = evidence(cam, 1, against=[0], height=6, width=6)
    assert shown[4, 4] == 1
    assert evidence(cam, 1, against=[2], height=6, width=6)[0, 0] == 1


def test_the_map_is_moved_to_where_its_places_look() -> None:
    shown = evidence(peaked(2, 2), 1, against=[0], height=48, width=96, shift=(0.125, -0.25))
    row, column = np.unravel_index(shown.argmax(), shown.shape)
    assert (row - 2.5 * 8, column - 2.5 * 16) == pytest.approx((6, -24), abs=1)


def test_a_map_without_differences_colours_nothing() -> None:
    shown = evidence(np.ones((3, 4, 4), np.float32), 2, against=[0, 1], height=16, width=16)
    assert not shown.any()
    picture = np.full((16, 16, 1), 90, np.uint8)
    png = cv2.imdecode(np.frombuffer(overlay(picture, shown), np.uint8), cv2.IMREAD_COLOR)
    assert (png == 90).all()


@pytest.mark.parametrize(("side", "channels", "expected"), [(28, 1, 224), (48, 3, 240), (300, 1, 300)])
def test_small_pictures_are_enlarged_and_the_peak_is_coloured(side: int, channels: int, expected: int) -> None:
    picture = np.full((side, side, channels), 60, np.uint8)
    shown = evidence(peaked(0, 5), 1, against=[0], height=side, width=side)
    png = cv2.imdecode(np.frombuffer(overlay(picture, shown), np.uint8), cv2.IMREAD_COLOR)
    assert png is not None
    assert png.shape == (expected, expected, 3)
    assert min(png.shape[:2]) >= MIN_SIDE
    colours = np.ptp(png.astype(int), axis=2)
    place = np.unravel_index(colours.argmax(), colours.shape)
    assert place[0] < expected / 6 + 1
    assert place[1] >= expected * 5 / 6 - 1
    assert colours[-1, 0] == 0
