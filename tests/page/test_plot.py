"""Plots of pages: PNG images, with labels that fit."""

from __future__ import annotations

from medloop.page.plot import draw_png, shorten


def test_a_plot_is_a_png() -> None:
    assert draw_png(lambda axes: axes.plot([0, 1], [0, 1])).startswith(b"\x89PNG")


def test_a_long_label_keeps_its_start_and_its_end() -> None:
    assert shorten("x" * 44) == "x" * 44
    assert shorten("adenocarcinoma or large cell or squamous (AUC 0.912)", 30) == "adenocarcinoma or l...C 0.912)"
