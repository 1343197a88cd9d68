"""Images that a CSV file lists, and DICOM folders, whose patients survive as keyed hashes and nothing else."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from medloop.decode.raster import keyed_hash
from medloop.errors import RejectedInput, UnknownName, UserError
from medloop.phantoms import PhantomSpec, write
from medloop.steps.stages import ingest, prepare
from tests.image_files import KEY, image_project, read_images, write_classes, write_picture
from tests.source_examples import Order, pictures
from tests.tables import write_csv

COLUMNS = {"image": "file", "label": "finding", "patient": "who", "split": "part"}
ROWS = [
    ("a/1.png", "normal", "p1", "train"),
    ("a/2.png", "tumour", "p1", "Validation"),
    ("3.png", "normal", "", "test"),
    ("b/4.png", "tumour", "p2", ""),
]


def example_of_csv_images(folder: Path, order: Order) -> dict[str, Any]:
    table = pd.DataFrame(pictures(folder, order), columns=["file", "finding"])
    return {"path": str(write_csv(table, folder)), "image": "file", "label": "finding"}


def example_of_dicom(folder: Path, order: Order) -> dict[str, Any]:
    spec = PhantomSpec(kind="chest_ct", patients=4, slices=(1, 1), size=32, format="dicom")
    write(spec, folder / "phantoms")
    return {"path": str(folder / "phantoms")}


EXAMPLES = {"csv_images": example_of_csv_images, "dicom": example_of_dicom}


def write_listed(folder: Path, rows: list[tuple[str, str, str, str]] = ROWS) -> Path:
    """The images and the table that lists them."""
    for number, (name, *_) in enumerate(ROWS):
        write_picture(folder / name, number)
    table = folder / "cases.csv"
    pd.DataFrame(rows, columns=list(COLUMNS.values())).to_csv(table, index=False)
    return table


def read_listed(project: Path, path: Path, **data: Any) -> pd.DataFrame:
    return read_images(project, source="csv_images", path=str(path), **{**COLUMNS, **data})


def by_name(cases: pd.DataFrame, column: str) -> dict[str, Any]:
    values = cases[column].astype(object).where(cases[column].notna(), None)
    return {Path(path).name: value for path, value in zip(cases["path"], values, strict=True)}


def test_columns_give_label_patient_and_part(tmp_path: Path) -> None:
    cases = read_listed(tmp_path / "p", write_listed(tmp_path / "set"))
    assert by_name(cases, "label") == {"1.png": "normal", "2.png": "tumour", "3.png": "normal", "4.png": "tumour"}
    assert by_name(cases, "patient_id") == {"1.png": "p1", "2.png": "p1", "3.png": None, "4.png": "p2"}
    assert by_name(cases, "given") == {"1.png": "train", "2.png": "val", "3.png": "test", "4.png": None}


def test_further_columns_are_kept_for_subgroups(tmp_path: Path) -> None:
    table = write_listed(tmp_path / "set")
    more = pd.read_csv(table, keep_default_na=False).assign(site=["north", "", "south", "north"], age=[61, 72, "?", 58])
    more.to_csv(table, index=False)
    cases = read_listed(tmp_path / "p", table, columns=["site", "age"])
    assert by_name(cases, "site") == {"1.png": "north", "2.png": None, "3.png": "south", "4.png": "north"}
    assert by_name(cases, "age") == {"1.png": 61.0, "2.png": 72.0, "3.png": None, "4.png": 58.0}
    with pytest.raises(UnknownName, match="column"):
        read_listed(tmp_path / "p", table, columns=["scanner"])


def test_the_table_is_found_in_its_folder(tmp_path: Path) -> None:
    table = write_listed(tmp_path / "set")
    whole = read_listed(tmp_path / "p", table.parent)
    assert whole["case_id"].tolist() == read_listed(tmp_path / "p", table)["case_id"].tolist()
    table.with_name("other.csv").write_text("x,y\n1,2\n", encoding="utf-8")
    with pytest.raises(UserError, match="that could list the images") as caught:
        read_listed(tmp_path / "p", table.parent)
    assert "2 CSV files" in caught.value.problem
    assert len(read_listed(tmp_path / "p", table.parent, index="cases.csv")) == len(ROWS)


def test_a_row_without_a_label_is_kept_and_set_aside(tmp_path: Path) -> None:
    rows = [*ROWS[:3], ("b/4.png", "NA", "p2", "")]
    rows[1] = ("a/2.png", "tumour", "p1", "")
    cases = read_listed(tmp_path / "p", write_listed(tmp_path / "set", rows))
    assert by_name(cases, "quarantined")["4.png"] == "no label"


@pytest.mark.parametrize("path", ["../secret.png", "a/../../secret.png", "{}/secret.png", "link.png", "out/secret.png",
                                  "missing.png", "a", "..", ""])  # fmt: skip
def test_a_path_that_leaves_the_folder_or_leads_nowhere_is_refused_by_its_row(path: str, tmp_path: Path) -> None:
    write_picture(tmp_path / "secret.png", 1)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "link.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "set" / "out").symlink_to(tmp_path)
    table = write_listed(tmp_path / "set", [*ROWS[:2], (path.format(tmp_path), "normal", "", "")])
    with pytest.raises(RejectedInput, match="below the table's folder") as caught:
        read_listed(tmp_path / "p", table)
    assert "row 4" in caught.value.problem


def test_paths_may_wind_as_long_as_they_stay_inside(tmp_path: Path) -> None:
    rows = [("./a/1.png", *ROWS[0][1:]), ("b/../a/2.png", *ROWS[1][1:])]
    cases = read_listed(tmp_path / "p", write_listed(tmp_path / "set", rows))
    plain = read_listed(tmp_path / "p", write_listed(tmp_path / "set", ROWS[:2]))
    assert cases["case_id"].tolist() == plain["case_id"].tolist()


def test_an_image_that_is_listed_twice_is_refused(tmp_path: Path) -> None:
    table = write_listed(tmp_path / "set", [*ROWS, ("b/../a/1.png", "tumour", "p1", "")])
    with pytest.raises(RejectedInput) as caught:
        read_listed(tmp_path / "p", table)
    assert "rows 2 and 6 name the same image" in caught.value.problem


@pytest.mark.parametrize("role", list(COLUMNS))
def test_a_column_that_is_not_there_is_refused(role: str, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="column"):
        read_listed(tmp_path / "p", write_listed(tmp_path / "set"), **{role: "nowhere"})


def test_a_part_of_another_name_is_refused(tmp_path: Path) -> None:
    table = write_listed(tmp_path / "set", [*ROWS[:3], ("b/4.png", "tumour", "p2", "holdout")])
    with pytest.raises(UnknownName, match="split"):
        read_listed(tmp_path / "p", table)


def write_dicom(folder: Path, **spec: Any) -> Path:
    return write(PhantomSpec(patients=6, slices=(2, 3), size=32, format="dicom", **spec), folder)


def test_patients_of_dicom_are_keyed_hashes_the_same_in_every_file(tmp_path: Path) -> None:
    root = write_dicom(tmp_path / "scans")
    truth = pd.read_csv(root / "cases.csv").set_index("path")["patient_id"]
    cases = read_images(tmp_path / "p", source="dicom", path=str(root))
    assert cases["quarantined"].isna().all()
    expected = [keyed_hash(truth["/".join(Path(path).parts[-2:])], KEY) for path in cases["path"]]
    assert cases["patient_id"].tolist() == expected
    assert cases["patient_id"].nunique() == 6
    assert len(cases) > 6


def test_a_header_tells_sex_age_band_and_scanner_for_subgroups(tmp_path: Path) -> None:
    root = write_dicom(tmp_path / "scans")
    first = sorted(root.rglob("*.dcm"))[0]
    ds = dcmread(first)
    ds.PatientSex, ds.PatientAge, ds.Manufacturer, ds.ManufacturerModelName = "F", "064Y", "Acme", "One"
    ds.save_as(first)
    cases = read_images(tmp_path / "p", source="dicom", path=str(root))
    told = {name: by_name(cases, name)[first.name] for name in ("sex", "age", "scanner")}
    assert told == {"sex": "F", "age": "60-69", "scanner": "Acme One"}


def test_labels_of_dicom_may_come_from_a_table(tmp_path: Path) -> None:
    root = write_dicom(tmp_path / "scans")
    listed = read_images(tmp_path / "p", source="dicom", path=str(root), index="cases.csv", image="path", label="label")
    folders = read_images(tmp_path / "p", source="dicom", path=str(root))
    assert listed.equals(folders)


def test_a_patient_whom_nobody_names_is_kept_together_by_study(tmp_path: Path) -> None:
    root = write_dicom(tmp_path / "scans")
    studies = {}
    for path in root.rglob("*.dcm"):
        ds = dcmread(path)
        studies[path.name] = keyed_hash(str(ds.StudyInstanceUID), KEY)
        ds.PatientID = ""
        ds.save_as(path)
    cases = read_images(tmp_path / "p", source="dicom", path=str(root))
    assert cases["patient_id"].isna().all()
    assert by_name(cases, "group_id") == studies


NAME, NUMBER, BIRTH = "Fitzwilliam^Darcy", "QX774411", "18130128"
PLANTED = (NAME, "Fitzwilliam", "Darcy", NUMBER, BIRTH, "PemberleyHospital")


def plant(path: Path) -> None:
    """A person in the tags, in private tags and in sequences."""
    ds = dcmread(path)
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.StudyDate = NAME, NUMBER, BIRTH, BIRTH
    ds.InstitutionName, ds.PatientComments, ds.ImageComments = "PemberleyHospital", NAME, NUMBER
    ds.private_block(0x0011, NAME, create=True).add_new(1, "LO", NUMBER)
    inner = Dataset()
    inner.PatientName, inner.PatientID, inner.StudyDescription = NAME, NUMBER, NAME
    ds.RequestAttributesSequence = Sequence([inner])
    ds.save_as(path)


def test_a_planted_person_is_in_no_output(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    root = write_dicom(tmp_path / "scans")
    paths = sorted(root.rglob("*.dcm"))
    for path in paths:
        plant(path)
    paths[0].write_bytes(paths[0].read_bytes()[:-600])
    project = image_project(tmp_path / "p", data={"source": "dicom", "path": str(root)}, prepare={"size": 32})
    with caplog.at_level(logging.DEBUG):
        said = [ingest.run(project), prepare.run(project)]
        paths[1].unlink()
        changed = image_project(tmp_path / "p", data={"source": "dicom", "path": str(root)}, prepare={"size": 48})
        with pytest.raises(UserError) as caught:
            prepare.run(changed)
    cases = project.cases()
    assert cases["quarantined"].notna().sum() == 1
    assert cases["patient_id"].nunique() == 1
    assert not cases["patient_id"].dropna().str.contains(NUMBER).any()
    written = [path.read_bytes() for path in project.root.rglob("*") if path.is_file()]
    texts = [*said, str(caught.value), repr(caught.value), caplog.text, *capfd.readouterr(), cases.to_csv()]
    assert len(written) > 4
    for word in PLANTED:
        assert not any(word in text for text in texts)
        assert not any(word.encode() in data for data in written)


def test_an_unlabelled_folder_of_dicom_is_no_set(tmp_path: Path) -> None:
    root = write_dicom(tmp_path / "scans", classes=("normal",))
    with pytest.raises(UserError, match=r"two classes|outside the class folders"):
        read_images(tmp_path / "p", source="dicom", path=str(root))


def test_pictures_of_other_kinds_lie_beside_dicom(tmp_path: Path) -> None:
    root = write_classes(write_dicom(tmp_path / "scans"))
    cases = read_images(tmp_path / "p", source="dicom", path=str(root))
    assert {"dicom", "png"} == set(cases["format"])
    assert cases.loc[cases["format"] == "png", "patient_id"].isna().all()
