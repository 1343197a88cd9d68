"""The data version: the same for the same content, however much of it is joined at once."""

from __future__ import annotations

import hashlib

import pandas as pd
import pytest

from medloop.data import manifest
from medloop.data.manifest import fingerprint

NAMES = ("case_id", "file_sha256", "label", "patient_id", "quarantined")


@pytest.fixture
def cases() -> pd.DataFrame:
    texts: dict[str, list[str | None]] = {name: [f"{name} {number}" for number in range(10)] for name in NAMES}
    texts["label"][3] = "Größe"
    texts["patient_id"][:4] = ["", None, "null", None]
    texts["quarantined"] = [None] * 10
    return pd.DataFrame(texts)


def plainly(cases: pd.DataFrame) -> str:
    digest = hashlib.sha256()
    for name in NAMES:
        values = [None if pd.isna(value) else str(value) for value in cases[name]]
        digest.update(bytes(value is None for value in values))
        digest.update("\0".join(value or "" for value in values).encode())
    return digest.hexdigest()


@pytest.mark.parametrize("rows", [1, 3, 10, 1_000])
@pytest.mark.parametrize("kind", ["str", "object"])
def test_it_is_made_of_every_text(cases: pd.DataFrame, rows: int, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "ROWS_AT_ONCE", rows)
    assert fingerprint(cases.astype(kind)) == plainly(cases)


@pytest.mark.parametrize("name", NAMES)
def test_a_change_of_any_text_changes_it(cases: pd.DataFrame, name: str) -> None:
    changed = cases.copy()
    changed.loc[7, name] = "other"
    assert fingerprint(changed) != fingerprint(cases)
