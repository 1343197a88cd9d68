"""The edition: a locked test set, known by the hash of its cases and labels."""

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
    """The rows of the test cases by their ids, and the group of each, in the order of the split."""
    part = splits[splits["part"] == "test"]
    rows = cases.set_index("case_id", drop=False)
    if absent := set(part["case_id"]) - set(rows.index):
        raise UserError(
            "every test case must be among the cases", found=f"{len(absent)} are not", hint="run `medloop run`"
        )
    return rows.loc[part["case_id"]], part["group"].tolist()


def edition_of(cases: pd.DataFrame, splits: pd.DataFrame, section: SplitSection, *, smoke: bool) -> Edition:
    """The edition that a split defines."""
    test = set(splits.loc[splits["part"] == "test", "case_id"])
    prints = {name: text for name, text in _fingerprints(cases).items() if name in test}
    return Edition(id=_id(prints), rule=_rule(section, smoke=smoke), cases=prints)


def locked_cases(edition: Edition | None, cases: pd.DataFrame, section: SplitSection, *, smoke: bool) -> frozenset[str]:
    """The cases that an edition keeps for testing; none where the recipe asks for another split."""
    if edition is None or edition.rule != _rule(section, smoke=smoke):
        return frozenset()
    now = _fingerprints(cases)
    changed = sorted(name for name, text in edition.cases.items() if now.get(name) != text)
    if changed:
        raise UserError(
            f"the {len(edition.cases)} test cases of edition {edition.id} must stay as they were locked",
            found=f"{len(changed)} changed or missing, such as {', '.join(changed[:3])}",
            hint="restore them, or set another split.seed: a new edition, which no old report can be compared with",
        )
    return frozenset(edition.cases)


def write_edition(edition: Edition, path: Path) -> None:
    """Lock the edition."""
    write_json(path, asdict(edition))


def read_edition(path: Path) -> Edition | None:
    """The edition that is locked, if one is."""
    if not path.is_file():
        return None
    content = read_json(path)
    if (
        not isinstance(content, dict)
        or set(content) != {"id", "rule", "cases"}
        or content["id"] != _id(content["cases"])
    ):
        raise UserError(
            f"{path.name} must be as it was locked",
            found="cases that do not give its id",
            hint="restore it; if it is lost, delete it and split again: a new edition begins",
        )
    return Edition(**content)


def _id(prints: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(sorted(prints.items())).encode()).hexdigest()[:16]


def _rule(section: SplitSection, *, smoke: bool) -> dict[str, float]:
    """What defines the test set; the folds within the rest do not."""
    return {"test": section.test, "seed": section.seed, "smoke": float(smoke)}


def _fingerprints(cases: pd.DataFrame) -> dict[str, str]:
    rows = zip(cases["case_id"], cases["file_sha256"], cases["label"], strict=True)
    return {name: hashlib.sha256(f"{content}\0{label}".encode()).hexdigest()[:16] for name, content, label in rows}
