"""A folder of classes, from any place, with its official parts, its classes and patients by rule."""

from __future__ import annotations

import os
import re
import shutil
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from medloop.data.manifest import fingerprint
from medloop.errors import RefusedAddress, RejectedInput, UserError
from tests.image_files import read_images, write_classes, write_picture
from tests.source_examples import Order, pictures


def example(folder: Path, order: Order) -> dict[str, Any]:
    pictures(folder / "pictures", order)
    return {"path": str(folder / "pictures")}


EXAMPLES = {"folder": example}


def test_the_folders_are_the_classes(tmp_path: Path) -> None:
    cases = read_images(tmp_path / "p", source="folder", path=str(write_classes(tmp_path / "scans")))
    assert cases["label"].value_counts().to_dict() == {"normal": 4, "tumour": 4}
    assert cases["quarantined"].isna().all()
    assert cases["given"].isna().all()
    assert cases["patient_id"].isna().all()
    assert (cases["width"] == 24).all()


@pytest.mark.parametrize(("folders", "parts"), [
    (("train", "valid"), {"train", "val"}),
    (("Training", "Validation", "Testing"), {"train", "val", "test"}),
    (("train", "val", "test"), {"train", "val", "test"}),
])  # fmt: skip
def test_folders_of_parts_are_the_official_split(folders: tuple[str, ...], parts: set[str], tmp_path: Path) -> None:
    scans = write_classes(tmp_path / "scans", parts=folders)
    cases = read_images(tmp_path / "p", source="folder", path=str(scans))
    assert set(cases["given"]) == parts
    assert set(cases["label"]) == {"normal", "tumour"}
    assert len(cases) == 8 * len(folders)


def test_a_pattern_and_a_renaming_give_the_class(tmp_path: Path) -> None:
    scans = tmp_path / "scans"
    write_classes(scans / "train", classes=("normal", "adeno_left.lower_T2", "large_right"))
    write_classes(scans / "valid", classes=("normal", "adeno_right", "large"))
    cases = read_images(
        tmp_path / "p", source="folder", path=str(scans), class_pattern="[^_]+", rename={"large": "large cell"}
    )
    assert set(cases["label"]) == {"normal", "adeno", "large cell"}


def test_the_group_of_a_pattern_is_the_class(tmp_path: Path) -> None:
    scans = write_classes(tmp_path / "scans", classes=("01-normal", "02-tumour"))
    cases = read_images(tmp_path / "p", source="folder", path=str(scans), class_pattern=r"\d+-(.+)")
    assert set(cases["label"]) == {"normal", "tumour"}


def test_the_name_of_a_file_tells_the_patient(tmp_path: Path) -> None:
    scans = write_classes(tmp_path / "scans")
    cases = read_images(tmp_path / "p", source="folder", path=str(scans), patient_pattern="^(p[0-9])_")
    told = cases["path"].map(lambda path: re.match("p[0-9]", Path(path).name)[0])
    assert (cases["patient_id"] == told).all()
    assert (cases["group_id"] == told).all()


def test_a_pattern_of_patients_that_fits_not_every_name_is_refused_without_the_name(tmp_path: Path) -> None:
    scans = write_classes(tmp_path / "scans")
    write_picture(scans / "normal" / "JaneDoe.png", 99)
    with pytest.raises(UserError, match="does not match the name of every file") as caught:
        read_images(tmp_path / "p", source="folder", path=str(scans), patient_pattern="^(p[0-9])_")
    assert "JaneDoe" not in str(caught.value)


def test_ids_depend_on_neither_the_order_nor_the_place_of_the_files(tmp_path: Path) -> None:
    scans = write_classes(tmp_path / "scans")
    moved = tmp_path / "elsewhere" / "copy"
    for path in sorted(scans.rglob("*.png"), reverse=True):
        (moved / path.relative_to(scans)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, moved / path.relative_to(scans))
    first, second = (read_images(tmp_path / "p", source="folder", path=str(place)) for place in (scans, moved))
    assert first["case_id"].tolist() == second["case_id"].tolist()
    assert fingerprint(first) == fingerprint(second)


def test_a_path_within_the_project_is_told_from_there(tmp_path: Path) -> None:
    write_classes(tmp_path / "p" / "data")
    cases = read_images(tmp_path / "p", source="folder", path="data")
    assert cases["path"].str.startswith("data/").all()
    assert all((tmp_path / "p" / path).is_file() for path in cases["path"])


def test_a_lone_folder_of_folders_is_stepped_into(tmp_path: Path) -> None:
    write_classes(tmp_path / "outer" / "chest" / "Data", parts=("train", "test"))
    outer = read_images(tmp_path / "p", source="folder", path=str(tmp_path / "outer"))
    inner = read_images(tmp_path / "p", source="folder", path=str(tmp_path / "outer" / "chest" / "Data"))
    assert outer["case_id"].tolist() == inner["case_id"].tolist()


def test_what_cannot_be_an_image_is_passed_over(tmp_path: Path) -> None:
    scans = write_classes(tmp_path / "scans")
    (scans / "README.md").write_text("about", encoding="utf-8")
    (scans / "labels.CSV").write_text("a,b", encoding="utf-8")
    (scans / "normal" / ".DS_Store").write_bytes(b"x")
    write_picture(scans / ".ipynb_checkpoints" / "copy.png", 1)
    write_picture(scans / "__MACOSX" / "normal" / "copy.png", 1)
    os.mkfifo(scans / "normal" / "pipe.png")
    assert len(read_images(tmp_path / "p", source="folder", path=str(scans))) == 8


def pack_zip(scans: Path, archive: Path) -> Path:
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(scans.rglob("*.png")):
            file.write(path, path.relative_to(scans.parent))
    return archive


def pack_tar(scans: Path, archive: Path) -> Path:
    with tarfile.open(archive, "w:gz") as file:
        file.add(scans, scans.name)
    return archive


@pytest.mark.parametrize(("pack", "name"), [(pack_zip, "scans.zip"), (pack_tar, "scans.tar.gz")])
def test_an_archive_gives_the_cases_of_its_folder(
    pack: Callable[[Path, Path], Path], name: str, tmp_path: Path
) -> None:
    scans = write_classes(tmp_path / "scans", parts=("train", "valid"))
    packed = read_images(tmp_path / "p", source="folder", path=str(pack(scans, tmp_path / name)))
    plain = read_images(tmp_path / "p", source="folder", path=str(scans))
    assert fingerprint(packed) == fingerprint(plain)
    assert packed["path"].str.startswith("work/raw/").all()


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """The host of a local server and the folder that it serves."""
    folder = tmp_path / "site"
    folder.mkdir()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"127.0.0.1:{server.server_port}", folder
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_web_address_is_fetched_where_the_host_is_allowed(site: tuple[str, Path], tmp_path: Path) -> None:
    host, folder = site
    scans = write_classes(tmp_path / "scans")
    pack_zip(scans, folder / "scans.zip")
    address = f"http://{host}/scans.zip"
    fetched = read_images(tmp_path / "p", hosts=[host], source="folder", path=address)
    assert fingerprint(fetched) == fingerprint(read_images(tmp_path / "p", source="folder", path=str(scans)))
    with pytest.raises(RefusedAddress):
        read_images(tmp_path / "other", source="folder", path=address)


def test_a_download_that_is_not_the_expected_one_is_refused(site: tuple[str, Path], tmp_path: Path) -> None:
    host, folder = site
    pack_zip(write_classes(tmp_path / "scans"), folder / "scans.zip")
    with pytest.raises(RejectedInput, match="SHA-256"):
        read_images(tmp_path / "p", hosts=[host], source="folder", path=f"http://{host}/scans.zip", sha256="0" * 64)


def test_an_image_beside_the_classes_is_refused(tmp_path: Path) -> None:
    scans = write_classes(tmp_path / "scans")
    write_picture(scans / "loose.png", 99)
    with pytest.raises(UserError, match="outside the class folders"):
        read_images(tmp_path / "p", source="folder", path=str(scans))


@pytest.mark.parametrize("classes", [("normal",), ()])
def test_fewer_than_two_classes_are_refused(classes: tuple[str, ...], tmp_path: Path) -> None:
    write_classes(tmp_path / "scans", classes=classes).mkdir(exist_ok=True)
    with pytest.raises(UserError, match=r"two classes|No image files"):
        read_images(tmp_path / "p", source="folder", path=str(tmp_path / "scans"))


def test_a_class_that_the_recipe_does_not_name_is_refused(tmp_path: Path) -> None:
    scans = write_classes(tmp_path / "scans", classes=("normal", "tumour", "cyst"))
    with pytest.raises(UserError, match=r"not in `data\.classes`") as caught:
        read_images(tmp_path / "p", source="folder", path=str(scans), classes=("normal", "tumour"))
    assert caught.value.problem.endswith("cyst.")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    path = write_picture(tmp_path / "one.png", 1)
    with pytest.raises(UserError, match="is a file, not a folder or an archive"):
        read_images(tmp_path / "p", source="folder", path=str(path))
