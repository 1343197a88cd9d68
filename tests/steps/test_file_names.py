"""Files of any name are audited, prepared and answered, called by case ids; no name leaves unless it was asked for."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medloop.phantoms import PhantomSpec
from medloop.storage.names import local_path, stored_paths, visible
from tests.bundle.image_bundles import png
from tests.dicom_series import write_series
from tests.image_files import image_project, picture, write_classes
from tests.loop_project import Ended, medloop, run_stages
from tests.odd_names import ODD, PATIENT, write

RAW = re.compile("[\n\u202e\udc80-\udcff]")


def odd_scans(folder: Path) -> Path:
    """Two classes of pictures with odd names, one picture twice, one that is broken."""
    write_classes(folder, each=12)
    for number, name in enumerate(ODD):
        write(folder / ("normal" if number % 2 else "tumour"), name, png(picture(1000 + number)))
    write(folder / "normal", b"copy of " + PATIENT.encode() + b"\xff\n.png", png(picture(1000)))
    write(folder / "normal", b"broken " + PATIENT.encode() + b".png", b"\x89PNG")
    return folder


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@given(st.lists(st.binary(min_size=1, max_size=20).filter(lambda name: b"\0" not in name)))
def test_every_name_comes_back_from_its_text_and_no_two_share_one(names: list[bytes]) -> None:
    paths = [os.fsdecode(b"/" + name.replace(b"/", b"")) for name in names]
    stored = stored_paths(paths)
    assert [local_path(one) for one in stored] == paths
    assert len(set(stored)) == len(set(paths))
    for one in stored:
        one.encode()
        assert not RAW.search(visible(one))


def test_an_ordinary_path_is_stored_as_it_is() -> None:
    paths = ["scans/100%/Größe.png", "/a/file:/b%41.png"]
    assert stored_paths(paths) == paths
    assert [local_path(one) for one in paths] == paths


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Ended]:
    folder = tmp_path_factory.mktemp("odd")
    odd_scans(folder / "scans")
    return folder, medloop("audit", "scans", cwd=folder)


def test_a_folder_of_odd_names_is_audited_whole(audited: tuple[Path, Ended]) -> None:
    folder, done = audited
    assert done.code == 0, done.err
    assert f"{24 + len(ODD) + 2} cases" in done.out
    assert "Identical pixels in 1 group of files" in done.out
    assert f"Set aside: 1 of {24 + len(ODD) + 2} files" in done.out
    cases = pd.read_parquet(folder / "medloop-audit" / "cases.parquet")
    for path, digest in zip(cases["path"], cases["file_sha256"], strict=True):
        assert sha256((folder / local_path(path)).read_bytes()) == digest
    assert cases["case_id"].is_unique


def test_no_name_is_in_findings_page_or_terminal_and_an_id_leads_to_the_file(audited: tuple[Path, Ended]) -> None:
    folder, done = audited
    report = folder / "medloop-audit" / "report"
    texts = [done.out, done.err, *(path.read_text("utf-8") for path in report.iterdir())]
    for text in texts:
        assert "DOE" not in text
        assert ".png" not in text
        assert "\u202e" not in text
    assert "`medloop cases ID`" in done.out
    assert "medloop cases ID" in (report / "audit.html").read_text("utf-8")
    cases = pd.read_parquet(folder / "medloop-audit" / "cases.parquet")
    for wanted, shown in ((b"two\nlines.png", r"two\nlines.png"), (b"caf\xe9.png", r"caf\xe9.png")):
        name = os.fsdecode(wanted)
        (one,) = [case for case, path in zip(cases["case_id"], cases["path"], strict=True) if name in local_path(path)]
        assert shown in medloop("cases", one, cwd=folder).out
        assert shown in medloop("cases", one[:12], cwd=folder).out
    lost = medloop("cases", "0" * 20, cwd=folder)
    assert (lost.code, "No case with id 000" in lost.err) == (2, True)


def test_names_that_were_asked_for_are_shown_escaped(
    audited: tuple[Path, Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MEDLOOP_SHOW_NAMES", "true")
    (tmp_path / "scans").symlink_to(audited[0] / "scans")
    done = medloop("audit", "scans", cwd=tmp_path)
    assert done.code == 0, done.err
    page = (tmp_path / "medloop-audit" / "report" / "audit.html").read_text("utf-8")
    findings = (tmp_path / "medloop-audit" / "report" / "findings.json").read_text("utf-8")
    assert f"broken {PATIENT}.png" in findings
    assert f"copy of {PATIENT}\\\\xff\\\\n.png" in findings
    assert "medloop cases" not in page + done.out
    assert "\u202e" not in page + findings + done.out


def test_the_stages_take_any_name(tmp_path: Path) -> None:
    odd_scans(tmp_path / "scans")
    for number in range(12):
        write(
            tmp_path / "scans" / os.fsdecode(b"caf\xe9\n\xe2\x80\xae"), b"%d.png" % number, png(picture(5000 + number))
        )
    project = image_project(
        tmp_path,
        data={"source": "folder", "path": "scans", "positive": ["tumour"]},
        audit={"accept": ["file_name_shortcut"]},
        split={"folds": 2},
        prepare={"size": 24},
    )
    done = medloop("ingest", cwd=tmp_path)
    assert r"caf\xe9" in done.out
    assert "\u202e" not in done.out
    run_stages(tmp_path, "audit", "split", "prepare")
    cases = project.cases()
    assert len(cases) == 24 + len(ODD) + 14
    assert set(cases["label"]) == {"normal", "tumour", "caf\\xe9\n\u202e"}
    assert cases["quarantined"].notna().sum() == 1
    assert "\u202e" not in (tmp_path / "work" / "audit" / "audit.html").read_text("utf-8")


def test_a_message_does_not_obey_what_a_name_holds(tmp_path: Path) -> None:
    done = medloop("audit", "scans\x1b[2J\u202e", cwd=tmp_path)
    assert done.code == 2
    assert r"scans\x1b[2J\u202e" in done.err
    assert not {"\x1b", "\u202e"} & set(done.err)


def test_frames_of_a_file_of_any_name_are_cases(tmp_path: Path) -> None:
    spec = PhantomSpec(patients=12, slices=(2, 2), size=32, classes=("normal", "large_cell"), format="dicom")
    write_series(tmp_path / "scans", spec, grouped=True)
    for number, path in enumerate(sorted((tmp_path / "scans").rglob("*.dcm"))):
        path.rename(path.with_name(os.fsdecode(b"caf\xe9\n%d" % number)))
    data = {"source": "dicom", "path": "scans", "classes": ["normal", "large_cell"], "positive": ["large_cell"]}
    settings = {"prepare": {"size": 32, "frame": "all"}, "export": {"per": "patient"}, "audit": {"accept": ["any"]}}
    project = image_project(tmp_path, data=data, split={"folds": 2}, **settings)
    run_stages(tmp_path, "ingest", "audit", "split", "prepare")
    cases = project.cases()
    assert cases["quarantined"].isna().all()
    assert all((tmp_path / local_path(path)).is_file() for path in cases["path"])
    assert "wrong_extension" not in (tmp_path / "work" / "audit" / "findings.json").read_text("utf-8")
