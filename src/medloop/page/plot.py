"""Plots for pages and reports, all in the style of the pages."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

INK, ACCENT, SOFT, WARM, SEVERE = "#1b2733", "#0b6e75", "#9aa8b4", "#b35c00", "#b3261e"
# Distinguishable with red-green colour blindness.
COLOURS = (ACCENT, WARM, "#5b4b9a", "#2f7fc1", "#8a8d00", "#a03060", "#4d4d4d", "#3c9d5d")
STYLE: dict[str, Any] = {
    "font.size": 11, "axes.edgecolor": SOFT, "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK,
    "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False, "figure.dpi": 130,
    "grid.color": "#e3e9ee", "axes.axisbelow": True,
}  # fmt: skip

Draw = Callable[[Any], None]


def draw_png(draw: Draw, *, size: tuple[float, float] = (5.0, 4.5)) -> bytes:
    """Return a PNG of what `draw` puts on the axes."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.subplots())
        buffer = io.BytesIO()
        FigureCanvasAgg(figure).print_png(buffer)  # type: ignore[no-untyped-call]
    return buffer.getvalue()


def shorten(text: str, max_length: int = 44) -> str:
    """Return the text, with its middle left out if it is too long."""
    return text if len(text) <= max_length else f"{text[: max_length - 11]}...{text[-8:]}"
