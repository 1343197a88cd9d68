"""Files of any name are answered, called by the case ids of ingest; no name leaves unless it was asked for."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from medloop.bundle.batch.ownership import PatientFinder
from medloop.bundle.batch.score import score_files
from medloop.bundle.predictor import Predictor
from medloop.storage.names import local_path
from tests.bundle.image_bundles import draw_discs, png
from tests.loop_project import medloop
from tests.odd_names import ODD, PATIENT, write


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_predict_names_files_by_their_case_ids(ending: str, discs: Path, tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    for name, disc in zip(ODD, draw_discs(len(ODD), seed=7), strict=True):
        write(scans, name, png(disc.pixels))
    write(scans / PATIENT, b"broken \xff.png", b"\x89PNG")
    out = tmp_path / f"out{ending}"
    words = ("scans", "--bundle", str(discs / "bundle"), "--out", out.name)
    done = medloop("predict", *words, cwd=tmp_path)
    assert done.code == 0, done.err
    assert f"{len(ODD)} cases predicted, 1 rejected" in done.out
    rows = rows_of(out)
    assert len({row["case"] for row in rows}) == len(ODD) + 1
    assert not any(row["file"] for row in rows)
    assert not any("DOE" in str(row) or ".png" in str(row) for row in rows)
    assert "--names" in done.out
    assert medloop("predict", *words, "--names", cwd=tmp_path).code == 0
    named = {local_path(row["file"]): row["case"] for row in rows_of(out)}
    assert set(named) == {f"scans/{os.fsdecode(name)}" for name in ODD} | {f"scans/{PATIENT}/broken \udcff.png"}
    assert list(named.values()) == [row["case"] for row in rows]


def rows_of(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_no_name_becomes_a_formula_in_a_spreadsheet(discs: Path, tmp_path: Path) -> None:
    for name, disc in zip(("=A1().png", "-DOE.png", "plain.png"), draw_discs(3, seed=7), strict=True):
        (tmp_path / name).write_bytes(png(disc.pixels))
    words = ("*.png", "--bundle", str(discs / "bundle"), "--out", "out.csv", "--names")
    assert medloop("predict", *words, cwd=tmp_path).code == 0
    assert sorted(row["file"] for row in rows_of(tmp_path / "out.csv")) == ["./-DOE.png", "./=A1().png", "plain.png"]


def test_a_prediction_has_the_same_case_id_as_ingest(finished_discs: Path, discs: Path) -> None:
    cases = pd.read_parquet(finished_discs / "medloop-audit" / "cases.parquet")
    done = medloop("predict", "scans", "--bundle", str(discs / "bundle"), cwd=finished_discs)
    assert done.code == 0, done.err
    assert {row["case"] for row in rows_of(finished_discs / "predictions.csv")} == set(cases["case_id"])


@pytest.fixture
def finished_discs(tmp_path: Path) -> Path:
    """A folder of two classes that was audited."""
    for number, disc in enumerate(draw_discs(6, seed=9)):
        write(tmp_path / "scans" / ("disc" if number % 2 else "none"), b"%d.png" % number, png(disc.pixels))
    assert medloop("audit", "scans", cwd=tmp_path).code == 0
    return tmp_path


def test_files_of_one_name_in_two_places_have_two_ids(discs: Path, tmp_path: Path) -> None:
    for number, disc in enumerate(draw_discs(2, seed=9)):
        write(tmp_path / f"p{number}", b"slice.png", png(disc.pixels))
    done = medloop("predict", "p0", "p1", "--bundle", str(discs / "bundle"), cwd=tmp_path)
    assert done.code == 0, done.err
    assert len({row["case"] for row in rows_of(tmp_path / "predictions.csv")}) == 2


def test_slices_of_patients_are_named_by_their_ids(heads: Path, tmp_path: Path) -> None:
    for number, disc in enumerate(draw_discs(4, seed=9)):
        name = f"{PATIENT}\n{number}".encode() + b"\xff.png"
        write(tmp_path / "scans", name, png(disc.pixels)[: 100 if number == 0 else None])
    (tmp_path / "who.csv").write_text("file,patient\nscans/lost.png,p1\n", "utf-8")
    words = ("scans", "--bundle", str(heads / "bundle"))
    nobodys = medloop("predict", *words, "--patients", "who.csv", cwd=tmp_path)
    assert nobodys.code == 2
    assert "such as case " in nobodys.err
    assert "DOE" not in nobodys.err
    predictor = Predictor.load(heads / "bundle")
    found = score_files(predictor, [tmp_path / "scans"], tmp_path / "out.csv", finder=PatientFinder(pattern="^(DOE)"))
    assert (found.answered, found.rejected) == (0, 1)
    (row,) = rows_of(tmp_path / "out.csv")
    assert row["patient"] == "DOE"
    assert len(row["case"].split(" | ")) == 4
    assert f"case {row['case'].split(' | ', maxsplit=1)[0]}: " in row["rejected"]
    assert "DOE" not in "".join(str(row[name]) for name in row if name != "patient")
