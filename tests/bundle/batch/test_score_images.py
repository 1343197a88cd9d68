"""Many images: folders, patterns and prefixes, one line a file, gone on with after a kill."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from medloop.bundle.batch import score as batch
from medloop.bundle.batch.score import IMAGES_PER_BATCH, Scored, score_files
from medloop.bundle.predictor import Predictor
from medloop.errors import UserError
from tests.bundle.image_bundles import draw_discs, png
from tests.loop_project import medloop, small_rows, write_table
from tests.storage.conftest import bucket, object_store  # noqa: F401 - fixtures

FILES = [png(disc.pixels) for disc in draw_discs(6, seed=41)]


@pytest.fixture(scope="module")
def predictor(discs: Path) -> Predictor:
    return Predictor.load(discs / "bundle")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, data in enumerate(FILES):
        path = tmp_path / "scans" / f"p{number // 2}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path / "scans"


def lines_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_folder_has_one_line_per_file(predictor: Predictor, folder: Path, tmp_path: Path) -> None:
    assert score_files(predictor, [folder], tmp_path / "out.csv", names=True) == Scored(answered=6, rejected=0)
    lines = lines_of(tmp_path / "out.csv")
    assert [line["file"] for line in lines] == [str(folder / f"p{n // 2}" / f"{n}.png") for n in range(6)]
    for line, answer in zip(lines, predictor.predict(FILES), strict=True):
        assert float(line["p_disc"]) == pytest.approx(answer.probabilities["disc"], abs=1e-5)
        assert (line["label"] or None, line["bundle"], line["row"]) == (answer.label, predictor.hash, "")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.csv", "scans"]


def test_a_bad_file_is_one_named_rejection(predictor: Predictor, folder: Path, tmp_path: Path) -> None:
    (folder / "p1" / "2.png").write_bytes(FILES[2][:100])
    (folder / "p1" / "notes.txt").write_text("no image", encoding="utf-8")
    assert score_files(predictor, [folder], tmp_path / "out.csv", names=True) == Scored(answered=5, rejected=2)
    bad = {Path(line["file"]).name: line["rejected"] for line in lines_of(tmp_path / "out.csv") if line["rejected"]}
    assert list(bad) == ["2.png", "notes.txt"]
    assert "PNG" in bad["2.png"]


def test_a_file_that_has_gone_is_one_named_rejection(
    predictor: Predictor, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "p1" / "2.png").unlink()
    (folder / "p1" / "2.png").symlink_to("/proc/self/mem")
    assert score_files(predictor, [folder], tmp_path / "out.csv") == Scored(answered=5, rejected=1)


@pytest.mark.parametrize(
    ("pattern", "count"), [("scans/p0/*.png", 2), ("scans/**/[0-3].png", 4), ("scans/p2/5.png", 1)]
)
def test_patterns_and_single_files(
    predictor: Predictor, folder: Path, tmp_path: Path, pattern: str, count: int
) -> None:
    assert score_files(predictor, [str(tmp_path / pattern)], tmp_path / "out.csv").answered == count


@pytest.mark.parametrize("place", ["absent/*.png", "absent.png", "empty"])
def test_a_place_without_files_is_named_and_nothing_is_written(
    predictor: Predictor, tmp_path: Path, place: str
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=place.split("*", maxsplit=1)[0]):
        score_files(predictor, [tmp_path / place], tmp_path / "out.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_prefix_in_an_object_store(
    predictor: Predictor,
    bucket: Callable[[str, bytes], None],  # noqa: F811
    tmp_path: Path,
) -> None:
    for number, data in enumerate(FILES[:3]):
        bucket(f"new/{number}.png", data)
    bucket("new/broken.png", b"\x89PNG")
    bucket("old/x.png", FILES[0])
    found = score_files(predictor, ["s3://scans/new"], tmp_path / "out.csv", names=True)
    assert found == Scored(answered=3, rejected=1)
    names = [line["file"] for line in lines_of(tmp_path / "out.csv")]
    assert names == [f"s3://scans/new/{name}.png" for name in ("0", "1", "2", "broken")]


def test_tables_in_an_object_store(
    golden: Path,
    bucket: Callable[[str, bytes], None],  # noqa: F811
    tmp_path: Path,
) -> None:
    table = write_table(tmp_path / "rows.csv", small_rows(5))
    bucket("new/rows.csv", table.read_bytes())
    bucket("new/notes.txt", b"no table")
    bucket("old/broken.csv", b"\xff\xfe")
    found = []
    for place in (table, "s3://scans/new/rows.csv", "s3://scans/new"):
        said = medloop("predict", str(place), "--bundle", str(golden), "--out", "out.csv", cwd=tmp_path)
        assert (said.code, said.out) == (0, "5 cases predicted, 0 rejected; see out.csv\n"), said.err
        found.append(lines_of(tmp_path / "out.csv"))
    assert found[0] == found[1] == found[2]
    broken = medloop("predict", "s3://scans/old/broken.csv", "--bundle", str(golden), cwd=tmp_path)
    assert broken.code == 2
    assert "broken.csv is not UTF-8" in broken.err


def test_parquet_keeps_the_types_even_where_all_is_rejected(predictor: Predictor, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"bad")
    score_files(predictor, [folder], tmp_path / "good.parquet")
    score_files(predictor, [tmp_path / "bad.png"], tmp_path / "bad.parquet")
    good, bad = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("good", "bad"))
    assert good.schema.equals(bad.schema)
    assert good.num_rows == 6
    assert bad.column("p_disc").to_pylist() == [None]


class Killed(BaseException):
    """The end of the process, as the code sees it."""


def kill_after(count: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Ends the run once some images have been asked; how many each call asks is noted."""
    asked: list[int] = []
    real = Predictor.predict

    def predict(self: Predictor, cases: Sequence[Any], **options: Any) -> Any:
        if sum(asked) >= count:
            raise Killed
        asked.append(len(cases))
        return real(self, cases, **options)

    monkeypatch.setattr(Predictor, "predict", predict)
    return asked


@pytest.fixture
def many(tmp_path: Path) -> Path:
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(3 * IMAGES_PER_BATCH):
        (folder / f"{number:03d}.png").write_bytes(FILES[number % 6])
    return folder


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
def test_a_run_that_was_killed_goes_on_where_it_was(
    predictor: Predictor, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    out, whole = tmp_path / f"out{ending}", tmp_path / f"whole{ending}"
    score_files(predictor, [many], whole)
    with monkeypatch.context() as patch:
        kill_after(IMAGES_PER_BATCH, patch)
        with pytest.raises(Killed):
            score_files(predictor, [many], out)
    assert not out.exists()
    partial = tmp_path / f".out{ending}.partial"
    with partial.open("a", encoding="utf-8") as file:
        file.write('{"file": "half a li')
    asked = kill_after(10**9, monkeypatch)
    assert score_files(predictor, [many], out) == Scored(answered=3 * IMAGES_PER_BATCH, rejected=0)
    assert sum(asked) == 2 * IMAGES_PER_BATCH
    assert out.read_bytes() == whole.read_bytes()
    assert not partial.exists()


def test_changed_files_are_asked_anew(
    predictor: Predictor, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        kill_after(IMAGES_PER_BATCH, patch)
        with pytest.raises(Killed):
            score_files(predictor, [many], tmp_path / "out.csv")
    (many / "000.png").write_bytes(FILES[1] + b"\0")
    asked = kill_after(10**9, monkeypatch)
    score_files(predictor, [many], tmp_path / "out.csv")
    assert sum(asked) == 3 * IMAGES_PER_BATCH


def test_no_more_than_a_few_images_are_in_memory(
    predictor: Predictor, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch, "BYTES_PER_BATCH", 5 * len(FILES[0]))
    asked = kill_after(10**9, monkeypatch)
    score_files(predictor, [many], tmp_path / "out.csv")
    assert max(asked) <= 7


def test_rows_of_a_table_go_on_after_a_kill(
    table_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Predictor.load(table_bundle)
    monkeypatch.setattr(batch, "ROWS_PER_BATCH", 4)
    names = table.preparer.names
    lines = [",".join(names), *(",".join([str(number)] * len(names)) for number in range(10))]
    (tmp_path / "tables").mkdir()
    for name in ("a.csv", "b.csv", "notes.txt"):
        (tmp_path / "tables" / name).write_text("\n".join(lines), encoding="utf-8")
    score_files(table, [tmp_path / "tables"], tmp_path / "whole.csv")
    with monkeypatch.context() as patch:
        kill_after(14, patch)
        with pytest.raises(Killed):
            score_files(table, [tmp_path / "tables"], tmp_path / "out.csv")
    kept = (tmp_path / ".out.csv.partial").read_text("utf-8").splitlines()
    assert json.loads(kept[-1])["row"] == 5
    assert score_files(table, [tmp_path / "tables"], tmp_path / "out.csv") == Scored(answered=20, rejected=0)
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()


def test_two_runs_into_one_file_do_not_mix(predictor: Predictor, folder: Path, tmp_path: Path) -> None:
    from medloop.storage import file_lock

    with (
        file_lock(tmp_path / ".out.csv.lock"),
        pytest.raises(UserError, match="Another command is writing here"),
    ):
        score_files(predictor, [folder], tmp_path / "out.csv")
    shutil.rmtree(folder)
