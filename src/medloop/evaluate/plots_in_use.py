"""Plots of the bundle in use: acting on it, letting it decline, and how it does in each subgroup."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medloop.evaluate.plots import ACCENT, COLOURS, INK, SOFT, WARM, Points, picture

MOST_BANDS = 40


def decision_curve(points: Points) -> bytes:
    """What acting on the bundle gains, by the probability from which one would act."""

    def draw(axes: Any) -> None:
        at = [p["threshold"] for p in points]
        axes.fill_between(
            at, [p["lower"] for p in points], [p["upper"] for p in points], color=ACCENT, alpha=0.15, linewidth=0
        )
        axes.plot(at, [p["model"] for p in points], color=ACCENT, linewidth=1.8, label="act on the model")
        axes.plot(at, [p["treat_all"] for p in points], color=WARM, linestyle="--", linewidth=1.3, label="treat all")
        axes.axhline(0, color=INK, linewidth=1, label="treat none")
        top = max(p["upper"] for p in points)
        axes.set(xlim=(0, 1), ylim=(-0.25 * top - 0.01, 1.15 * top + 0.01))
        axes.set_xlabel("probability from which one would act")
        axes.set_ylabel("net benefit (true positives a case)")
        axes.grid(linewidth=0.6)
        axes.legend(frameon=False, loc="upper right", fontsize=9)

    return picture(draw)


def risk_against_coverage(points: Points, rows: Points, abstained: Mapping[str, Any]) -> bytes:
    """The share of wrong decisions when only the surest cases are answered."""

    def draw(axes: Any) -> None:
        axes.plot([p["coverage"] for p in points], [p["risk"] for p in points], color=ACCENT, linewidth=1.6)
        for row in rows:
            risk = row["risk"]
            axes.plot([row["coverage"]] * 2, [risk["lower"], risk["upper"]], color=ACCENT, linewidth=1, alpha=0.6)
        axes.plot([], [], color=ACCENT, label="if the surest are answered first, with 95% intervals")
        if abstained["accuracy_of_the_rest"] is not None:
            x, y = 1 - abstained["share"], 1 - abstained["accuracy_of_the_rest"]
            axes.plot([x], [y], marker="D", markersize=8, color=WARM, linestyle="", label="as the service answers")
        axes.set(xlim=(0, 1.02), ylim=(0, None), xlabel="share of the cases that get a class")
        axes.set_ylabel("share of wrong classes among them")
        axes.grid(linewidth=0.6)
        axes.legend(frameon=False, loc="upper left", fontsize=9)

    return picture(draw)


def forest(subgroups: Mapping[str, Mapping[str, Any]], whole: Mapping[str, Any], metric: str, *, title: str) -> bytes:
    """One line a band: the figure with its interval, beside that of all cases."""
    lines: list[tuple[str, Any, int | None]] = [("all cases", whole, None)]
    for column, bands in subgroups.items():
        lines.append((column, None, None))
        lines += [(f"   {band}", found["figures"][metric], found["n"]) for band, found in bands.items()]
    lines = lines[:MOST_BANDS]

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
        shown = [f"{name} (n {n})" if n is not None else name for name, _, n in reversed(lines)]
        axes.set_yticks(range(len(lines)), shown)
        axes.set_ylim(-0.7, len(lines) - 0.3)
        axes.tick_params(axis="y", length=0)
        axes.set_xlabel(title)
        axes.grid(axis="x", linewidth=0.6)

    return picture(draw, size=(6.2, 0.32 * len(lines) + 1.2))
