"""The array of prepared images: the same bytes however often it is killed, nothing twice, and no memory that grows."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from medloop.decode.parallel import MIN_FILES_FOR_PROCESSES
from medloop.errors import UserError
from medloop.prepare import prepared_images
from medloop.prepare.image import ImagePreparer
from medloop.prepare.prepared_images import ImageFiles, read_prepared_images, write_prepared_images
from medloop.storage import sha256_file
from tests.image_files import write_picture

TASK = {"task": "images", "classes": ["a", "b"], "positive": ["b"]}
SMALL = ImagePreparer(size=16)


class ImageFile(NamedTuple):
    """One case of ImageFiles."""

    case_id: str
    path: str
    file_sha256: str


def files_in(folder: Path, count: int, *, size: int = 24) -> list[ImageFile]:
    paths = [write_picture(folder / f"{number:04d}.png", number, size=size) for number in range(count)]
    return [ImageFile(f"case{number}", str(path), sha256_file(path)) for number, path in enumerate(paths)]


def columns(files: Sequence[ImageFile]) -> ImageFiles:
    return ImageFiles(*map(list, zip(*files, strict=True)))


def labels_of(files: Sequence[ImageFile]) -> list[str]:
    return ["ab"[number % 2] for number in range(len(files))]


def write(files: Sequence[ImageFile], folder: Path, preparer: ImagePreparer = SMALL) -> int:
    return write_prepared_images(columns(files), labels_of(files), preparer, TASK, folder)


def content(folder: Path) -> dict[str, bytes]:
    """All files of the folder, and the names of all that lies beside it."""
    beside = {path.name: b"" for path in folder.parent.iterdir()}
    return {**beside, **{path.name: path.read_bytes() for path in folder.iterdir()}}


@pytest.mark.parametrize("count", [5, MIN_FILES_FOR_PROCESSES + 3])
@pytest.mark.parametrize("preparer", [SMALL, ImagePreparer(size=(16, 40), channels=3, fit="crop")])
def test_each_row_is_what_serving_would_prepare(count: int, preparer: ImagePreparer, tmp_path: Path) -> None:
    files = files_in(tmp_path / "files", count)
    assert write(files, tmp_path / "out" / "prepared", preparer) == count
    prepared = read_prepared_images(tmp_path / "out" / "prepared")
    assert prepared.images.shape == (count, *preparer.shape)
    assert prepared.images.dtype == np.uint8
    for file, image in zip(files, prepared.images, strict=True):
        assert np.array_equal(image, preparer.prepare(Path(file.path).read_bytes()))
    assert prepared.case_ids == [file.case_id for file in files]
    assert prepared.labels == labels_of(files)
    assert prepared.preparer == preparer
    assert prepared.task == TASK


def test_running_again_prepares_nothing_and_changes_no_byte(tmp_path: Path) -> None:
    files = files_in(tmp_path / "files", 6)
    folder = tmp_path / "out" / "prepared"
    write(files, folder)
    before, touched = content(folder), (folder / "images.npy").stat().st_mtime_ns
    assert write(files, folder) == 0
    assert content(folder) == before
    assert (folder / "images.npy").stat().st_mtime_ns == touched


def test_other_labels_are_taken_over_without_preparing_again(tmp_path: Path) -> None:
    files = files_in(tmp_path / "files", 6)
    write(files, tmp_path / "prepared")
    assert (
        write_prepared_images(columns(files), ["b"] * 6, SMALL, {**TASK, "positive": ["a"]}, tmp_path / "prepared") == 0
    )
    prepared = read_prepared_images(tmp_path / "prepared")
    assert prepared.labels == ["b"] * 6
    assert prepared.task["positive"] == ["a"]


@pytest.mark.parametrize("preparer", [ImagePreparer(size=20), ImagePreparer(size=16, channels=3)])
def test_another_preparer_prepares_all_again(preparer: ImagePreparer, tmp_path: Path) -> None:
    files = files_in(tmp_path / "files", 6)
    write(files, tmp_path / "prepared")
    assert write(files, tmp_path / "prepared", preparer) == 6
    assert read_prepared_images(tmp_path / "prepared").preparer == preparer


def test_other_cases_or_bytes_prepare_all_again(tmp_path: Path) -> None:
    files = files_in(tmp_path / "files", 6)
    write(files, tmp_path / "prepared")
    assert write(files[:5], tmp_path / "prepared") == 5
    write_picture(Path(files[0].path), 99)
    assert (
        write([files[0]._replace(file_sha256=sha256_file(Path(files[0].path))), *files[1:5]], tmp_path / "prepared")
        == 5
    )


@pytest.mark.parametrize("count", [6, MIN_FILES_FOR_PROCESSES + 40])
def test_a_file_that_vanished_or_changed_is_named_by_its_case(count: int, tmp_path: Path) -> None:
    files = files_in(tmp_path / "JaneDoe", count)
    folder = tmp_path / "out" / "prepared"
    Path(files[3].path).unlink()
    write_picture(Path(files[5].path), 99)
    with pytest.raises(UserError, match="as they were ingested") as caught:
        write(files, folder)
    assert caught.value.problem.startswith("2 images are missing")
    assert "case3" in caught.value.problem
    assert "JaneDoe" not in str(caught.value)
    assert not folder.exists()
    write_picture(Path(files[3].path), 3)
    write_picture(Path(files[5].path), 5)
    assert 0 < write(files, folder) < count
    whole = tmp_path / "whole" / "prepared"
    write(files, whole)
    assert content(folder) == content(whole)


def test_the_old_array_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    files = files_in(tmp_path / "files", 6)
    write(files, tmp_path / "prepared")
    before = read_prepared_images(tmp_path / "prepared").images.tobytes()
    Path(files[0].path).unlink()
    with pytest.raises(UserError):
        write(files, tmp_path / "prepared", ImagePreparer(size=20))
    assert read_prepared_images(tmp_path / "prepared").images.tobytes() == before


def test_too_little_room_on_the_disk_is_told_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = files_in(tmp_path / "files", 2)
    usage = prepared_images.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(prepared_images.shutil, "disk_usage", lambda _: usage._replace(free=100))
    with pytest.raises(UserError, match="bytes of disk"):
        write(files, tmp_path / "prepared")


RUN = """
import json, resource, sys
from pathlib import Path
from medloop.decode import parallel
from medloop.prepare import prepared_images
from medloop.prepare.image import ImagePreparer

def main():
    given = json.loads(Path(sys.argv[1]).read_text())
    prepared_images.SECONDS_BETWEEN_MARKS = 0
    parallel.MIN_FILES_FOR_PROCESSES = given["worth"]
    files = prepared_images.ImageFiles(*zip(*given["files"]))
    preparer = ImagePreparer(size=given["size"], channels=3)
    print("begun", flush=True)
    prepared_images.write_prepared_images(files, ["a"] * len(files.paths), preparer, {}, Path(given["folder"]))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, flush=True)

if __name__ == "__main__":
    main()
"""


def start(
    folder: Path, files: Sequence[ImageFile], *, size: int, worth: int = MIN_FILES_FOR_PROCESSES
) -> subprocess.Popen[str]:
    """Prepare in a process of its own, which says when it begins, and its peak of memory when it has ended."""
    folder.parent.mkdir(exist_ok=True)
    given: dict[str, Any] = {"files": files, "size": size, "worth": worth, "folder": str(folder)}
    order = folder.parent.with_suffix(".json")
    order.write_text(json.dumps(given), encoding="utf-8")
    process = subprocess.Popen([sys.executable, "-c", RUN, str(order)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


def finish(process: subprocess.Popen[str]) -> int:
    """Wait for the end; its peak of memory in kilobytes."""
    said, _ = process.communicate()
    assert process.returncode == 0
    return int(said)


def check_kills(tmp_path: Path, kills: int) -> None:
    files = files_in(tmp_path / "files", 400, size=64)
    undisturbed = start(tmp_path / "whole" / "prepared", files, size=256)
    started = time.perf_counter()
    finish(undisturbed)
    seconds = time.perf_counter() - started
    folder = tmp_path / "killed" / "prepared"
    draw = random.Random(0)  # noqa: S311 - moments, not secrets
    for _ in range(kills):
        with start(folder, files, size=256) as process:
            time.sleep(draw.uniform(0, seconds))
            process.send_signal(signal.SIGKILL)
        if folder.exists() and draw.random() < 0.5:
            # Done in time: begin again, but not always, so that a finished folder is met as well.
            (folder / "index.json").unlink(missing_ok=True)
    finish(start(folder, files, size=256))
    assert content(folder) == content(tmp_path / "whole" / "prepared")


def test_kills_at_any_moment_leave_the_bytes_of_an_undisturbed_run(tmp_path: Path) -> None:
    check_kills(tmp_path, 6)


@pytest.mark.soak
def test_many_kills_leave_the_bytes_of_an_undisturbed_run(tmp_path: Path) -> None:
    check_kills(tmp_path, 100)


def test_a_run_goes_on_where_a_killed_one_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = files_in(tmp_path / "files", 40)
    monkeypatch.setattr(prepared_images, "SECONDS_BETWEEN_MARKS", 0)
    mark, marks = prepared_images._mark, []

    def mark_and_die(*given: Any) -> None:
        mark(*given)
        marks.append(given)
        if len(marks) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(prepared_images, "_mark", mark_and_die)
    with pytest.raises(KeyboardInterrupt):
        write(files, tmp_path / "prepared")
    monkeypatch.setattr(prepared_images, "_mark", mark)
    assert 0 < write(files, tmp_path / "prepared") < 40
    assert read_prepared_images(tmp_path / "prepared").images.any(axis=(1, 2, 3)).all()


def test_marks_of_another_array_are_never_taken_for_those_of_this_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = files_in(tmp_path / "files", 40)
    monkeypatch.setattr(prepared_images, "SECONDS_BETWEEN_MARKS", 0)

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    mark = prepared_images._mark

    def mark_and_die(*given: Any) -> None:
        mark(*given)
        raise KeyboardInterrupt

    # Marked for the first size, then begun and killed unmarked for a second one.
    for preparer, dying in ((SMALL, mark_and_die), (ImagePreparer(size=20), killed)):
        with monkeypatch.context() as patch:
            patch.setattr(prepared_images, "_mark", dying)
            with pytest.raises(KeyboardInterrupt):
                write(files, tmp_path / "prepared", preparer)
    assert write(files, tmp_path / "prepared") == 40
    write(files, tmp_path / "whole")
    assert (tmp_path / "prepared" / "images.npy").read_bytes() == (tmp_path / "whole" / "images.npy").read_bytes()


def test_memory_does_not_grow_with_the_number_of_images(tmp_path: Path) -> None:
    files = files_in(tmp_path / "files", 40)
    many = [file._replace(case_id=f"{file.case_id}-{number}") for number in range(10) for file in files]
    few_kb = finish(start(tmp_path / "few" / "prepared", files, size=256, worth=10**9))
    many_kb = finish(start(tmp_path / "many" / "prepared", many, size=256, worth=10**9))
    written = (tmp_path / "many" / "prepared" / "images.npy").stat().st_size
    assert written > 78_000_000
    assert (many_kb - few_kb) * 1024 < written / 3
