"""`medloop audit FOLDER` where the folders are no classes."""

from __future__ import annotations

from pathlib import Path

import pytest

from medloop.phantoms import PhantomSpec
from tests.dicom_series import write_series
from tests.loop_project import medloop

SPEC = PhantomSpec(patients=5, slices=(2, 2), size=32, classes=("normal", "large_cell"), format="dicom")


@pytest.mark.parametrize("by_patient", [False, True], ids=["flat", "a folder a patient"])
def test_a_folder_of_dicom_needs_no_classes(tmp_path: Path, by_patient: bool) -> None:
    write_series(tmp_path / "scans", SPEC, by_class=False, by_patient=by_patient)
    files = list((tmp_path / "scans").rglob("*.dcm"))
    files[0].with_name("copy.dcm").write_bytes(files[0].read_bytes())
    (files[0].parent / "broken.dcm").write_bytes(files[1].read_bytes()[:900])
    done = medloop("audit", "scans", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "No class folders: labels were not examined." in done.out
    assert f"{len(files) + 2} cases" in done.out
    assert "exact_duplicates" in done.out
    assert "1 of" in done.out.partition("quarantined")[2]
    assert "small_class" not in done.out


def test_folders_of_classes_are_taken_as_before(tmp_path: Path) -> None:
    write_series(tmp_path / "scans", SPEC)
    done = medloop("audit", "scans", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "No class folders" not in done.out
    assert "small_class" in done.out
