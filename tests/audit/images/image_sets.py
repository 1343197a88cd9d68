"""Phantoms on disk, with a manifest like that of ingest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medloop.decode.raster import decode, pixel_hash
from medloop.errors import RejectedInput
from medloop.phantoms import PhantomSpec
from tests.phantoms.fault_folder import Fault
from tests.phantoms.faults import write_faulty


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """A folder of images, its manifest, and what was planted in it."""

    root: Path
    cases: pd.DataFrame
    planted: dict[str, dict[str, Any]]

    def read(self, path: str) -> NDArray[np.uint8]:
        return decode((self.root / path).read_bytes()).pixels

    def ids(self, paths: list[str]) -> set[str]:
        return set(self.cases["case_id"].iloc[self.places(paths)])

    def places(self, paths: list[str]) -> list[int]:
        at = {path: place for place, path in enumerate(self.cases["path"])}
        return [at[path] for path in paths]


def phantoms(folder: Path, *faults: Fault, patients: int = 60, size: int = 64, **options: Any) -> ImageSet:
    write_faulty(PhantomSpec(patients=patients, size=size, **options), folder, *faults)
    truth = pd.read_csv(folder / "cases.csv").sort_values("path", ignore_index=True)
    rows = [_facts(folder, path) for path in truth["path"]]
    given = truth.get("split")
    cases = pd.DataFrame(rows).assign(
        label=truth["label"], patient_id=truth["patient_id"].astype(object), source="folder", given=given
    )
    records = json.loads((folder / "planted.json").read_text()) if faults else []
    return ImageSet(root=folder, cases=cases, planted={record["fault"]: record for record in records})


def _facts(folder: Path, path: str) -> dict[str, Any]:
    data = (folder / path).read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    facts: dict[str, Any] = {
        "case_id": hashlib.sha256(path.encode()).hexdigest()[:20], "group_id": None, "path": path,
        "file_sha256": digest, "bytes": len(data), "quarantined": None,
    }  # fmt: skip
    try:
        one = decode(data)
    except RejectedInput as error:
        return {**facts, "quarantined": error.problem}
    return {
        **facts, "pixel_sha256": pixel_hash(one.pixels), "width": one.width, "height": one.height,
        "mode": one.mode, "format": one.format, "bits": one.bits,
    }  # fmt: skip


def pairs(record: dict[str, Any], at: Callable[[list[str]], list[int]]) -> set[tuple[int, int]]:
    return {(min(pair), max(pair)) for pair in zip(at(record["paths"]), at(record["sources"]), strict=True)}
