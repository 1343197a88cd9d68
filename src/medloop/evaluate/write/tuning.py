"""Plots of a tuning study: its history, and the importance of each hyperparameter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from medloop.metrics import METRICS
from medloop.page.plot import ACCENT, INK, SOFT, draw_png


def history_plot(trials: pd.DataFrame, metric: str, *, best: float) -> bytes:
    """Draw the result of every trial and the best so far; a pruned trial is drawn at its last result."""

    def draw(axes: Any) -> None:
        complete, pruned = (trials[trials["state"] == state] for state in ("complete", "pruned"))
        best_trials = complete.loc[_is_best_so_far(complete[metric], metric)]
        steps = pd.concat([best_trials, trials.tail(1).assign(**{metric: best})])
        axes.step(steps["trial"], steps[metric], where="post", color=INK, linewidth=1.4, label="best so far")
        axes.scatter(complete["trial"], complete[metric], s=26, color=ACCENT, zorder=3, label="complete")
        if pruned[metric].notna().any():
            axes.scatter(pruned["trial"], pruned[metric], s=22, marker="x", color=SOFT, linewidths=1.2, label="pruned")
        axes.set_xlabel("trial")
        axes.set_ylabel(metric)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(axis="y", linewidth=0.4)
        axes.legend(frameon=False, fontsize=9, loc="best")

    return draw_png(draw, size=(6.4, 3.6))


def _is_best_so_far(values: pd.Series, metric: str) -> pd.Series:
    distance = values.map(METRICS[metric].distance)
    return distance <= distance.cummin()


def importance_plot(importances: Mapping[str, float], metric: str) -> bytes:
    """Draw the importance of each hyperparameter, or a note if there are too few trials."""

    def draw(axes: Any) -> None:
        if not importances:
            axes.set_axis_off()
            axes.text(0.5, 0.5, "too few distinct trials", ha="center", va="center", color=SOFT)
            return
        names = list(importances)[::-1]
        bars = axes.barh(names, [importances[name] for name in names], color=ACCENT, height=0.6)
        axes.bar_label(bars, [f"{100 * importances[name]:.0f}%" for name in names], padding=4, color=INK)
        axes.set_xlim(0, max(importances.values()) * 1.15)
        axes.set_xlabel(f"share of the variation in {metric}")

    return draw_png(draw, size=(6.4, 0.45 * max(len(importances), 1) + 1.1))
