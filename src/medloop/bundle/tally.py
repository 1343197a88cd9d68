"""Comparison of two bundles on the same cases, counted as the predictions arrive."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from medloop.case import Prediction

# How many of the latest disagreements are listed.
MAX_DIFFERENCES = 100
BOTH = ("champion", "challenger")


@dataclass(kw_only=True)
class Tally:
    """Counts of a champion and a challenger; an empty label is an abstention."""

    scored: int = 0
    agreed: int = 0
    processor_seconds: float = 0.0
    difference: float = 0.0
    largest: float = 0.0
    # Champion's label, then challenger's.
    labels: dict[str, Counter[str]] = field(default_factory=dict)
    skipped: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    differences: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=MAX_DIFFERENCES))

    def add(self, champion: Prediction, challenger: Prediction, *, at: str, processor_seconds: float) -> None:
        """Count a case that both have scored."""
        apart = largest_difference(champion, challenger)
        self.scored += 1
        self.processor_seconds += processor_seconds
        self.difference += apart
        self.largest = max(self.largest, apart)
        first, second = champion.label or "", challenger.label or ""
        self.labels.setdefault(first, Counter())[second] += 1
        if first == second:
            self.agreed += 1
            return
        both = {"champion": _to_json(champion), "challenger": _to_json(challenger)}
        self.differences.append({"id": champion.id, "at": at, "corrected": None, **both})

    def correct(self, labels: Mapping[str, str]) -> bool:
        """Add the labels that reviewers gave to the listed disagreements; return whether any of them is new."""
        before = [one["corrected"] for one in self.differences]
        for one in self.differences:
            one["corrected"] = labels.get(one["id"])
        return before != [one["corrected"] for one in self.differences]

    def to_json(self) -> dict[str, Any]:
        """Return the counts as they are stored and shown."""
        # Imported late, since the service does not need it for its first prediction.
        from medloop.metrics.intervals.proportions import wilson

        n = self.scored
        interval = wilson(self.agreed, n)
        corrected = [one for one in self.differences if one["corrected"] is not None]
        return {
            "scored": n,
            "agreed": self.agreed,
            "agreement": {"share": interval.value, "lower": interval.lower, "upper": interval.upper} if n else None,
            "labels": {label: dict(counts) for label, counts in self.labels.items()},
            "abstained": {
                "champion": sum(self.labels.get("", {}).values()),
                "challenger": sum(counts[""] for counts in self.labels.values()),
            },
            "probability_difference": {"mean": self.difference / n, "largest": self.largest} if n else None,
            "processor_ms": 1000 * self.processor_seconds / n if n else None,
            "skipped": dict(self.skipped),
            "failed": dict(self.failed),
            "corrected": {
                "differences": len(corrected),
                **{who: sum(one[who]["label"] == one["corrected"] for one in corrected) for who in BOTH},
            },
            "differences": list(self.differences),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Tally:
        """Return the stored counts, to continue counting."""
        n, apart = content["scored"], content["probability_difference"] or {"mean": 0.0, "largest": 0.0}
        return cls(
            scored=n,
            agreed=content["agreed"],
            processor_seconds=(content["processor_ms"] or 0.0) * n / 1000,
            difference=apart["mean"] * n,
            largest=apart["largest"],
            labels={label: Counter(counts) for label, counts in content["labels"].items()},
            skipped=Counter(content["skipped"]),
            failed=Counter(content["failed"]),
            differences=deque(content["differences"], maxlen=MAX_DIFFERENCES),
        )


def largest_difference(one: Prediction, other: Prediction) -> float:
    """Return the largest difference between the probabilities of a class."""
    return max(abs(share - other.probabilities[name]) for name, share in one.probabilities.items())


def _to_json(prediction: Prediction) -> dict[str, Any]:
    return {"label": prediction.label, "reason": prediction.reason, "probabilities": prediction.probabilities}
