"""Plots for clinical use: net benefit, abstention, and subgroups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medloop.evaluate.write.plots import Points
from medloop.page.plot import ACCENT, COLOURS, INK, SOFT, WARM, draw_png

MAX_LINES = 40


def decision_curve(points: Points) -> bytes:
    """Draw the net benefit of acting on the model, by the probability from which one would act."""

    def draw(axes: Any) -> None:
        thresholds = [p["threshold"] for p in points]
        axes.fill_between(
            thresholds,
            [p["lower"] for p in points],
            [p["upper"] for p in points],
            color=ACCENT,
            alpha=0.15,
            linewidth=0,
        )
        axes.plot(thresholds, [p["model"] for p in points], color=ACCENT, linewidth=1.8, label="act on the model")
        axes.plot(
            thresholds, [p["treat_all"] for p in points], color=WARM, linestyle="--", linewidth=1.3, label="treat all"
        )
        axes.axhline(0, color=INK, linewidth=1, label="treat none")
        top = max(p["upper"] for p in points)
        axes.set(xlim=(0, 1), ylim=(-0.25 * top - 0.01, 1.15 * top + 0.01))
        axes.set_xlabel("threshold probability for acting")
        axes.set_ylabel("net benefit (true positives per case)")
        axes.grid(linewidth=0.6)
        axes.legend(frameon=False, loc="upper right", fontsize=9)

    return draw_png(draw)


def risk_against_coverage(points: Points, rows: Points, abstained: Mapping[str, Any]) -> bytes:
    """Draw the error rate when only the cases with the highest confidence are classified."""

    def draw(axes: Any) -> None:
        axes.plot([p["coverage"] for p in points], [p["risk"] for p in points], color=ACCENT, linewidth=1.6)
        for row in rows:
            risk = row["risk"]
            axes.plot([row["coverage"]] * 2, [risk["lower"], risk["upper"]], color=ACCENT, linewidth=1, alpha=0.6)
        axes.plot([], [], color=ACCENT, label="highest confidence first, with 95% intervals")
        if abstained["accuracy_of_the_rest"] is not None:
            x, y = 1 - abstained["share"], 1 - abstained["accuracy_of_the_rest"]
            axes.plot([x], [y], marker="D", markersize=8, color=WARM, linestyle="", label="in service")
        axes.set(xlim=(0, 1.02), ylim=(0, None), xlabel="coverage (share of the cases that get a class)")
        axes.set_ylabel("error rate among these cases")
        axes.grid(linewidth=0.6)
        axes.legend(frameon=False, loc="upper left", fontsize=9)

    return draw_png(draw)


def forest(subgroups: Mapping[str, Mapping[str, Any]], whole: Mapping[str, Any], metric: str, *, title: str) -> bytes:
    """Draw a forest plot: one line for each subgroup, and one for all cases."""
    lines: list[tuple[str, Any, int | None]] = [("all cases", whole, None)]
    for column, bands in subgroups.items():
        lines.append((column, None, None))
        lines += [(f"   {band}", found["figures"][metric], found["n"]) for band, found in bands.items()]
    lines = lines[:MAX_LINES]

    def draw(axes: Any) -> None:
        for place, (_, figure, _) in enumerate(reversed(lines)):
            if figure is None or figure["value"] is None:
                continue
            colour = INK if place == len(lines) - 1 else COLOURS[0]
            if figure["lower"] is not None:
                axes.plot([figure["lower"], figure["upper"]], [place, place], color=colour, linewidth=1.6)
            axes.scatter([figure["value"]], [place], s=32, color=colour, zorder=3)
        if whole["value"] is not None:
            axes.axvline(whole["value"], color=SOFT, linestyle=":", linewidth=1.2)
        labels = [f"{name} (n = {n})" if n is not None else name for name, _, n in reversed(lines)]
        axes.set_yticks(range(len(lines)), labels)
        axes.set_ylim(-0.7, len(lines) - 0.3)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(title)
        axes.grid(axis="x", linewidth=0.6)

    return draw_png(draw, size=(6.2, 0.32 * len(lines) + 1.2))
