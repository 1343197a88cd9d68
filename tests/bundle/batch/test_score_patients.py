"""`medloop predict` with a bundle that decides per patient: a line a patient, and no answer for nobody's picture."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from medloop.bundle.batch.ownership import PatientFinder
from medloop.bundle.batch.score import Scored, score_files
from medloop.bundle.files import seal
from medloop.bundle.predictor import Predictor
from medloop.decode.raster import keyed_hash
from medloop.errors import RejectedInput, UserError
from tests.bundle.image_bundles import draw_discs, png
from tests.decode.dicom_files import dicom
from tests.loop_project import medloop

SLICES = [disc.pixels for disc in draw_discs(8, seed=41)]
WHOSE = ["p1", "p2", "p1", "p3", "p3", "p1", "p2", "p3"]
KEY = b"the key of the tests"


@pytest.fixture(scope="module")
def predictor(heads: Path) -> Predictor:
    return Predictor.load(heads / "bundle")


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    folder = tmp_path / "scans"
    folder.mkdir()
    for number, (pixels, patient) in enumerate(zip(SLICES, WHOSE, strict=True)):
        (folder / f"{number}_{patient}.png").write_bytes(png(pixels))
    return folder


def lines_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def check(lines: Sequence[dict[str, str]], predictor: Predictor) -> None:
    """The lines must be the predictor's answers, patient by patient."""
    expected = predictor.predict([png(pixels) for pixels in SLICES], patients=WHOSE)
    for line, answer in zip(lines, expected, strict=True):
        assert float(line["p_disc"]) == pytest.approx(answer.probabilities["disc"], abs=1e-6)
        assert (line["label"] or None, line["reason"] or None) == (answer.label, answer.reason)


def write_list(path: Path, folder: str, **columns: str) -> Path:
    names = {"file": "file", "patient": "patient", **columns}
    rows = [f"{folder}/{number}_{patient}.png,{patient}" for number, patient in enumerate(WHOSE)]
    path.write_text("\n".join([f"{names['file']},{names['patient']}", *rows]) + "\n", encoding="utf-8")
    return path


def test_a_list_names_the_patients(predictor: Predictor, scans: Path, tmp_path: Path) -> None:
    finder = PatientFinder.of(predictor.meta, patients=write_list(tmp_path / "who.csv", "scans"))
    out = tmp_path / "out.csv"
    assert score_files(predictor, [scans], out, finder=finder, names=True) == Scored(answered=3, rejected=0)
    lines = lines_of(out)
    assert [line["patient"] for line in lines] == ["p1", "p2", "p3"]
    assert [line["file"].count(" | ") for line in lines] == [2, 1, 2]
    check(lines, predictor)


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_the_patient_is_found_in_the_file_name_as_in_training(
    predictor: Predictor, scans: Path, tmp_path: Path, ending: str
) -> None:
    finder = PatientFinder(pattern=r"_(p\d)")
    out = tmp_path / f"out{ending}"
    assert score_files(predictor, [scans], out, finder=finder) == Scored(answered=3, rejected=0)
    if ending == ".csv":
        check(lines_of(out), predictor)
    else:
        import pyarrow.parquet as pq

        assert pq.read_table(out).column("patient").to_pylist() == ["p1", "p2", "p3"]


def test_only_the_keyed_hash_of_a_patient_in_a_header_is_written(predictor: Predictor, tmp_path: Path) -> None:
    for number, (pixels, patient) in enumerate(zip(SLICES, WHOSE, strict=True)):
        data = dicom(pixels, PatientID=f"Doe {patient}", Modality="OT")
        (tmp_path / f"{number}.dcm").write_bytes(data)
    out = tmp_path / "out" / "out.csv"
    out.parent.mkdir()
    assert score_files(predictor, [str(tmp_path / "*.dcm")], out, finder=PatientFinder(key=KEY)).answered == 3
    assert [line["patient"] for line in lines_of(out)] == [keyed_hash(f"Doe p{n}", KEY) for n in (1, 2, 3)]
    check(lines_of(out), predictor)
    assert "Doe" not in out.read_text("utf-8")


def test_without_patients_nothing_is_scored(heads: Path, scans: Path, tmp_path: Path) -> None:
    done = medloop("predict", "scans", "--bundle", str(heads / "bundle"), cwd=tmp_path)
    assert done.code == 2
    assert "decides per patient" in done.err
    assert "--patients FILE" in done.err
    assert not (tmp_path / "predictions.csv").exists()
    write_list(tmp_path / "who.csv", "scans", patient="patient_id")
    words = ("--bundle", str(heads / "bundle"), "--patients", "who.csv")
    done = medloop("predict", "scans", *words, cwd=tmp_path)
    assert done.code == 0, done.err
    assert done.out.startswith("3 patients predicted, 0 rejected; see predictions.csv\n")


def test_a_file_that_is_not_in_the_list_has_no_patient(predictor: Predictor, scans: Path, tmp_path: Path) -> None:
    finder = PatientFinder.of(predictor.meta, patients=write_list(tmp_path / "who.csv", "scans"))
    (scans / "9.png").write_bytes(png(SLICES[0]))
    with pytest.raises(RejectedInput, match=r"the case has no patient, such as .*9\.png"):
        score_files(predictor, [scans], tmp_path / "out.csv", finder=finder, names=True)


def test_a_slice_that_cannot_be_used_is_named_with_its_patient(
    predictor: Predictor, scans: Path, tmp_path: Path
) -> None:
    (scans / "1_p2.png").write_bytes(png(SLICES[1])[:100])
    (scans / "notes.txt").write_text("no picture", encoding="utf-8")
    out = tmp_path / "out.csv"
    found = score_files(predictor, [scans], out, finder=PatientFinder(pattern=r"_(p\d)"), names=True)
    assert found == Scored(answered=2, rejected=2)
    lines = lines_of(out)
    assert [(line["patient"], bool(line["rejected"])) for line in lines] == [
        ("", True),
        ("p1", False),
        ("p2", True),
        ("p3", False),
    ]
    assert "1_p2.png" in lines[2]["rejected"]


class Killed(BaseException):
    """The end of the process, as the code sees it."""


def test_a_run_that_was_killed_goes_on_with_the_next_patient(
    predictor: Predictor, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, asked = Predictor.score, list[int]()

    def score(self: Predictor, cases: Sequence[Any]) -> Any:
        if len(asked) == 1:
            raise Killed
        asked.append(len(cases))
        return real(self, cases)

    out = tmp_path / "out.csv"
    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "score", score)
        with pytest.raises(Killed):
            score_files(predictor, [scans], out, finder=PatientFinder(pattern=r"_(p\d)"))
    kept = (tmp_path / ".out.csv.partial").read_text("utf-8").splitlines()[1:]
    assert [json.loads(line)["patient"] for line in kept] == ["p1"]
    assert score_files(predictor, [scans], out, finder=PatientFinder(pattern=r"_(p\d)")).answered == 3
    check(lines_of(out), predictor)


def test_a_corrected_list_is_another_run(
    predictor: Predictor, scans: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, right = tmp_path / "out.csv", write_list(tmp_path / "right.csv", "scans")
    wrong = tmp_path / "wrong.csv"
    wrong.write_text(right.read_text("utf-8").replace(",p1", ",p9"), "utf-8")
    with monkeypatch.context() as patch:
        patch.setattr("medloop.bundle.batch.score._count", lambda _: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            score_files(predictor, [scans], out, finder=PatientFinder.of(predictor.meta, patients=wrong))
    assert (tmp_path / ".out.csv.partial").is_file()
    score_files(predictor, [scans], out, finder=PatientFinder.of(predictor.meta, patients=right))
    assert [line["patient"] for line in lines_of(out)] == ["p1", "p2", "p3"]


def test_a_file_that_several_paths_lead_to_is_one_slice(predictor: Predictor, scans: Path, tmp_path: Path) -> None:
    finder = PatientFinder.of(predictor.meta, patients=write_list(tmp_path / "who.csv", "scans"))
    paths = [scans, scans / "0_p1.png", f"{scans}/../scans/0_p1.png", f"{scans}/*p1.png"]
    assert score_files(predictor, paths, tmp_path / "out.csv", finder=finder) == Scored(answered=3, rejected=0)
    check(lines_of(tmp_path / "out.csv"), predictor)


def test_a_patient_with_missing_slices_is_rejected(predictor: Predictor, scans: Path, tmp_path: Path) -> None:
    table = write_list(tmp_path / "who.csv", "scans")
    with table.open("a", encoding="utf-8") as file:
        file.write("scans/lost.png,p2\nelsewhere/other.png,p7\n")
    finder = PatientFinder.of(predictor.meta, patients=table)
    found = score_files(predictor, [scans], tmp_path / "out.csv", finder=finder, names=True)
    assert found == Scored(answered=2, rejected=1)
    rejected = {line["patient"]: line["rejected"] for line in lines_of(tmp_path / "out.csv")}
    assert set(rejected) == {"p1", "p2", "p3"}
    assert "lost.png" in rejected["p2"]
    assert rejected["p1"] == rejected["p3"] == ""


def test_the_hint_explains_where_the_paths_of_a_list_begin(heads: Path, scans: Path, tmp_path: Path) -> None:
    write_list(tmp_path / "who.csv", "images")
    words = ("--bundle", str(heads / "bundle"), "--patients", "who.csv")
    done = medloop("predict", "scans", *words, cwd=tmp_path)
    assert done.code == 2
    assert "Add them to the list of 8 files; its paths are relative to its own folder" in done.err


LISTS = {
    "no patient": ("file,patient\na.png,\n", "row 2: the file or the patient is missing"),
    "two patients": ("file,patient\na.png,p\na.png,q\n", "row 3: another row names a different patient"),
    "a link": ('file,patient\na.png,"=HYPERLINK(""http://x"")"\n', "row 2: the patient is not plain text .*formula"),
    "a sum": ("file,patient\na.png,@SUM(1)\n", "row 2: the patient is not plain text .*formula"),
    "a letter that is not seen": ("file,patient\na.png,p\u200b1\n", "row 2: the patient is not plain text"),
    "no column": ("file,who\na.png,p\n", "column of the patient"),
}


@pytest.mark.parametrize(("text", "message"), LISTS.values(), ids=LISTS)
def test_a_wrong_list_is_refused(predictor: Predictor, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "who.csv").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        PatientFinder.of(predictor.meta, patients=tmp_path / "who.csv")


def test_every_frame_of_a_file_is_a_slice(heads: Path, tmp_path: Path) -> None:
    import numpy as np

    bundle = shutil.copytree(heads / "bundle", tmp_path / "bundle")
    meta = json.loads((bundle / "bundle.json").read_text("utf-8"))
    meta["preparer"]["rule"]["frame"] = "all"
    (bundle / "bundle.json").write_text(json.dumps(meta), encoding="utf-8")
    seal(bundle)
    predictor = Predictor.load(bundle)
    grey = np.concatenate(SLICES * 4)
    data = dicom(grey, Rows=SLICES[0].shape[0], NumberOfFrames="32", PatientID="P", Modality="OT")
    (tmp_path / "a.dcm").write_bytes(data)
    score_files(predictor, [tmp_path / "a.dcm"], tmp_path / "out.csv")
    (answer,) = predictor.predict([png(pixels) for pixels in SLICES * 4], patients=[0] * 32)
    (line,) = lines_of(tmp_path / "out.csv")
    assert float(line["p_disc"]) == pytest.approx(answer.probabilities["disc"], abs=1e-6)
