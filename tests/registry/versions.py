"""Bundles that differ, with reports and verdicts, for the model store."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from medloop.bundle import files
from medloop.case import RuleOutcome, Verdict
from medloop.registry.contents import write_description
from medloop.registry.store import Champion, ModelStore, write_verdict
from medloop.storage import write_json, write_text


def bundle_like(golden: Path, folder: Path, **values: Any) -> Path:
    """The golden bundle with other words in its description, sealed anew."""
    shutil.copytree(golden, folder)
    meta = json.loads((folder / files.META).read_text("utf-8"))
    write_json(folder / files.META, {**meta, **values})
    files.seal(folder)
    return folder


def point_to(store: ModelStore, number: int, **values: Any) -> Champion:
    """The pointer as whoever can write to the folder would set it, past all checks."""
    now = store.champion()
    facts = {"version": number, "bundle": store.version(number).bundle, "previous": None, "promoted": "", "by": "x"}
    champion = Champion(**{**facts, "counter": now.counter + 1 if now else 0, **values})
    write_json(store.folder / "champion.json", asdict(champion))
    return champion


def planted(store: ModelStore, number: int, bundle: Path) -> Path:
    """A version as whoever can write to the folder would make it, past all checks, with every checksum right."""
    target = store.versions_folder / str(number)
    shutil.copytree(bundle, target / "bundle")
    report_of(bundle, target / "report")
    shutil.copy(target / "report" / "card.md", target / "card.md")
    write_verdict(verdict_on(bundle), target / "verdict.json")
    write_description(target, number=number, bundle=files.verify(bundle), created="2026-01-01", by="x")
    return target


def report_of(bundle: Path, folder: Path) -> Path:
    """The least that a report holds."""
    summary = {"name": "golden", "bundle": files.verify(bundle)}
    write_json(folder / "report.json", {**summary, "scores": {}})
    write_json(folder / "run_summary.json", summary)
    write_text(folder / "card.md", f"# Model card: {bundle.name}\n")
    return folder


def verdict_on(bundle: Path, *, passed: bool = True, **values: Any) -> Verdict:
    """The gate's decision on these bytes."""
    rule = RuleOutcome(name="cv_recall_std", needed="<= 0.05", found="0.04" if passed else "0.07", passed=passed, n=10)
    facts = {"bundle": files.verify(bundle), "edition": files.read_meta(bundle)["edition"], "created": "2026-01-01"}
    return Verdict(**{"passed": passed, "rules": (rule,), **facts, **values})
