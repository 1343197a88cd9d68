"""What every audit ends in, and the findings that tables and images share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pandas as pd

from medloop.case import Finding
from medloop.recipe import AuditSection

RANK = {"severe": 0, "warning": 1, "note": 2}
SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class Audit:
    """The findings, and the groups of cases that must stay on one side of every split."""

    findings: tuple[Finding, ...]
    groups: tuple[tuple[str, ...], ...]
    # Copies that it did not look for: the reports say so.
    unchecked: tuple[str, ...] = ()

    def open_severe(self, section: AuditSection) -> list[Finding]:
        """The severe findings that the recipe does not accept by name."""
        return [one for one in self.findings if one.severity == "severe" and one.name not in section.accept]


def by_severity(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The worst first, otherwise in the order in which they were found."""
    return tuple(sorted(findings, key=lambda one: RANK[one.severity]))


def small_classes(labels: pd.Series[str], *, few: int = 20) -> Iterator[Finding]:
    """A finding for each class with too few cases to say much about."""
    counts = labels.value_counts()
    for name, count in counts[counts < few].items():
        yield Finding(
            name="small_class",
            severity="warning",
            what=f"Class '{name}' has only {count} cases.",
            where=(str(name),),
            count=int(count),
            todo="Expect wide intervals; collect more, or merge it with another class.",
        )
