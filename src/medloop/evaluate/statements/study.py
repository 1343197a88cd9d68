"""Facts about the data of a bundle: its cases, their partitions and the findings of the audit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from medloop.case import VALUE_PREFIX
from medloop.evaluate.figures.bands import bands_of
from medloop.evaluate.figures.subgroups import sort_bands

if TYPE_CHECKING:
    import pandas as pd

MAX_VALUES = 60


def study_facts(
    cases: pd.DataFrame, splits: pd.DataFrame, findings: Mapping[str, Any], *, subgroups: Sequence[str] = ()
) -> dict[str, Any]:
    """Return counts and names of columns only, nothing about a single patient."""
    table = cases.merge(splits[["case_id", "part", "group", "why"]], on="case_id", how="left")
    parts = {str(part): _part(rows, subgroups) for part, rows in table.groupby("part") if part}
    return {
        "cases": len(cases),
        "patients": int(cases["patient_id"].nunique()) or None,
        "sources": _counts(cases["source"]),
        "set_aside": _counts(why.partition(":")[0] for why in cases["quarantined"].dropna()),
        "left_out": _counts(table["why"][table["why"].fillna("") != ""]),
        "parts": parts,
        "patients_in_several_parts": _patients_in_several_parts(table),
        "duplicate_groups": len(findings["groups"]),
        "unchecked": list(findings.get("unchecked", ())),
        "findings": [
            {name: one[name] for name in ("name", "severity", "count", "what")} for one in findings["findings"]
        ],
        "missing": _missing(cases),
        "images": _images(cases),
    }


def _part(rows: pd.DataFrame, subgroups: Sequence[str]) -> dict[str, Any]:
    known = {str(name).removeprefix(VALUE_PREFIX): str(name) for name in rows}
    return {
        "cases": len(rows),
        "groups": int(rows["group"].nunique()),
        "patients": int(rows["patient_id"].nunique()) or None,
        "labels": _counts(rows["label"]),
        "subgroups": {name: _bands(rows[known[name]].tolist()) for name in subgroups if name in known},
    }


def _bands(values: list[Any]) -> dict[str, int]:
    bands = bands_of(values)
    return {band: sum((one or "unknown") == band for one in bands) for band in sort_bands(bands)}


def _counts(values: Iterable[Any]) -> dict[str, int]:
    """Return the frequency of each value, the most frequent first."""
    counts = Counter(str(value) for value in values)
    return dict(sorted(counts.items(), key=lambda one: (-one[1], one[0]))[:MAX_VALUES])


def _patients_in_several_parts(table: pd.DataFrame) -> int:
    """Return the number of patients with cases in several parts; the split should leave none."""
    known = table.dropna(subset=["patient_id", "part"])
    return int((known.groupby("patient_id")["part"].nunique() > 1).sum())


def _missing(cases: pd.DataFrame) -> dict[str, float]:
    """Return the share of missing values of each column that has any."""
    columns = [name for name in cases if str(name).startswith(VALUE_PREFIX)]
    shares = cases[columns].isna().mean()
    return {str(name).removeprefix(VALUE_PREFIX): float(share) for name, share in shares[shares > 0].items()}


def _images(cases: pd.DataFrame) -> dict[str, Any] | None:
    if cases["path"].isna().all():
        return None
    formats = _counts(cases["format"].dropna()) if "format" in cases else {}
    width, height = cases["width"].dropna(), cases["height"].dropna()
    size = f"{width.min():.0f} x {height.min():.0f} to {width.max():.0f} x {height.max():.0f}" if len(width) else ""
    return {"formats": formats, "modes": _counts(cases["mode"].dropna()), "size": size}
