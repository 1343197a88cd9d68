"""The edition: a locked test set, identified by the hash of its cases and labels."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd

from medloop.errors import UserError
from medloop.recipe import SplitSection
from medloop.storage import read_json, write_json


@dataclass(frozen=True, kw_only=True)
class Edition:
    """The test cases, each with the fingerprint of its content and label."""

    id: str
    rule: dict[str, float]
    cases: dict[str, str]


def tested_rows(cases: pd.DataFrame, splits: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows of the test cases and the group of each, in the order of the split."""
    part = splits[splits["part"] == "test"]
    rows = cases.set_index("case_id", drop=False)
    if absent := set(part["case_id"]) - set(rows.index):
        raise UserError(f"{len(absent)} test cases are not in the manifest.", "Run `medloop run`.")
    return rows.loc[part["case_id"]], part["group"].tolist()


def edition_of(cases: pd.DataFrame, splits: pd.DataFrame, section: SplitSection, *, smoke: bool) -> Edition:
    """Return the edition that a split defines."""
    test = set(splits.loc[splits["part"] == "test", "case_id"])
    fingerprints = {name: text for name, text in _fingerprints(cases).items() if name in test}
    return Edition(id=_id(fingerprints), rule=_rule(section, smoke=smoke), cases=fingerprints)


def locked_cases(edition: Edition | None, cases: pd.DataFrame, section: SplitSection, *, smoke: bool) -> frozenset[str]:
    """Return the cases that an edition keeps for testing; none if the recipe asks for another split."""
    if edition is None or edition.rule != _rule(section, smoke=smoke):
        return frozenset()
    now = _fingerprints(cases)
    changed = sorted(name for name, text in edition.cases.items() if now.get(name) != text)
    if changed:
        raise UserError(
            f"{len(changed)} of the {len(edition.cases)} test cases of edition {edition.id} have changed or are "
            f"missing, such as {', '.join(changed[:3])}.",
            "Restore them, or set another `split.seed`: that begins a new edition, and old reports are not comparable.",
        )
    return frozenset(edition.cases)


def write_edition(edition: Edition, path: Path) -> None:
    """Lock an edition."""
    write_json(path, asdict(edition))


def read_edition(path: Path) -> Edition | None:
    """Return the locked edition, if there is one."""
    if not path.is_file():
        return None
    content = read_json(path)
    if (
        not isinstance(content, dict)
        or set(content) != {"id", "rule", "cases"}
        or content["id"] != _id(content["cases"])
    ):
        raise UserError(
            f"{path.name} was changed: its cases do not match its id.",
            "Restore it; if it is lost, delete it and run `medloop split`, which begins a new edition.",
        )
    return Edition(**content)


def _id(fingerprints: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(sorted(fingerprints.items())).encode()).hexdigest()[:16]


def _rule(section: SplitSection, *, smoke: bool) -> dict[str, float]:
    """Return the fields that define the test set; the folds do not."""
    return {"test": section.test, "seed": section.seed, "smoke": float(smoke)}


def _fingerprints(cases: pd.DataFrame) -> dict[str, str]:
    rows = zip(cases["case_id"], cases["file_sha256"], cases["label"], strict=True)
    return {name: hashlib.sha256(f"{content}\0{label}".encode()).hexdigest()[:16] for name, content, label in rows}
