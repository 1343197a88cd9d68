"""Archives from strangers: unpacked whole inside their folder and within limits, or not at all."""

from __future__ import annotations

import gzip
import re
import subprocess
import tarfile
import tempfile
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medloop.errors import RejectedInput, UserError
from medloop.storage import Limits, is_archive, unpack
from tests.storage import hostile_archives as hostile

KINDS = ["zip", *hostile.PACKERS]
TREE = {"normal/1.png": b"one", "normal/2.png": b"two" * 1000, "tumour/3.png": b"", "read me.txt": "Größe".encode()}


def files_in(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if not path.is_dir()}


@contextmanager
def only_archive_changed(content: bytes) -> Iterator[tuple[Path, Path]]:
    """An archive and a folder for it, beside which nothing may appear."""
    with tempfile.TemporaryDirectory() as name:
        outside = Path(name)
        inside = outside / "a" / "b" / "inside"
        inside.parent.mkdir(parents=True)
        archive = outside / "archive"
        archive.write_bytes(content)
        yield archive, inside
        assert {path for path in outside.rglob("*") if not path.is_relative_to(inside)} == {
            archive,
            inside.parent,
            inside.parent.parent,
        }


def refusal(content: bytes, limits: Limits | None = None) -> str:
    """Why an archive is refused, having made sure that nothing of it is left and the old folder stays."""
    with only_archive_changed(content) as (archive, folder):
        with pytest.raises(RejectedInput) as caught:
            unpack(archive, folder, limits=limits)
        assert not folder.exists()
        folder.mkdir()
        (folder / "old").touch()
        with pytest.raises(RejectedInput):
            unpack(archive, folder, limits=limits)
        assert files_in(folder) == {"old": b""}
        return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_unpacks_to_its_tree_whatever_its_name(kind: str, tmp_path: Path) -> None:
    archive = tmp_path / "scans.dat"
    archive.write_bytes(hostile.make(kind, TREE))
    paths = unpack(archive, tmp_path / "folder")
    assert files_in(tmp_path / "folder") == TREE
    assert paths == [tmp_path / "folder" / name for name in TREE]


def test_a_second_archive_replaces_the_first(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(hostile.make_zip({name: b""}))
        unpack(tmp_path / name, tmp_path / "folder")
    assert files_in(tmp_path / "folder") == {"b": b""}


@pytest.mark.parametrize("form", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_long_names_and_other_scripts_come_back(form: int, tmp_path: Path) -> None:
    tree = {"folder/" * 30 + "scan.png": b"1", "肺/Größe.png": b"2"}
    (tmp_path / "x.tar").write_bytes(hostile.make_tar(tree, form=form))
    unpack(tmp_path / "x.tar", tmp_path / "folder")
    assert files_in(tmp_path / "folder") == tree


@pytest.mark.parametrize("options", [["-cf"], ["-czf"], ["-cjf"], ["-cJf"], ["--format=v7", "-cf"]])
def test_what_tar_packs_unpacks(options: list[str], tmp_path: Path) -> None:
    (tmp_path / "tree" / "empty").mkdir(parents=True)
    (tmp_path / "tree" / "a.png").write_bytes(b"1" * 700)
    subprocess.run(["tar", *options, tmp_path / "archive", "-C", tmp_path / "tree", "."], check=True)
    unpack(tmp_path / "archive", tmp_path / "folder")
    assert files_in(tmp_path / "folder") == {"a.png": b"1" * 700}
    assert (tmp_path / "folder" / "empty").is_dir()


def test_what_macos_adds_is_left_out(tmp_path: Path) -> None:
    litter = {"__MACOSX/a.png": b"", ".DS_Store": b"", "x/.DS_Store": b"", "x/._a.png": b""}
    (tmp_path / "archive").write_bytes(hostile.make_zip({"a.png": b"1"} | litter))
    unpack(tmp_path / "archive", tmp_path / "folder")
    assert files_in(tmp_path / "folder") == {"a.png": b"1"}


def test_archives_in_archives_stay_packed(tmp_path: Path) -> None:
    content = hostile.zip_of_zips(4, 5, b"0" * 10**6)
    (tmp_path / "42.zip").write_bytes(content)
    paths = unpack(tmp_path / "42.zip", tmp_path / "folder")
    assert [path.name for path in paths] == [f"{number}.zip" for number in range(5)]


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("name", hostile.HOSTILE_NAMES.values(), ids=hostile.HOSTILE_NAMES)
def test_a_name_that_leads_elsewhere_is_refused(name: str, kind: str) -> None:
    found = refusal(hostile.make(kind, [("good.png", b"1"), (name, b"evil")]))
    assert "entry 2 of archive is unsafe to unpack: its name" in found


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("name", ["__MACOSX/../../evil", "../.DS_Store", "/._evil"])
def test_litter_that_leads_elsewhere_is_refused(name: str, kind: str) -> None:
    assert "entry 1 of archive is unsafe to unpack: its name" in refusal(hostile.make(kind, [(name, b"evil")]))


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("names", hostile.CLASHES.values(), ids=hostile.CLASHES)
def test_names_that_a_file_system_could_confuse_are_refused(names: list[str], kind: str) -> None:
    found = refusal(hostile.make(kind, [(name, name.encode()) for name in names]))
    assert f"entry {len(names)} of archive is unsafe to unpack: another entry has the same name" in found


@pytest.mark.parametrize(("content", "reason"), hostile.HOSTILE_ARCHIVES.values(), ids=hostile.HOSTILE_ARCHIVES)
def test_what_is_no_plain_file_is_refused(content: bytes, reason: str) -> None:
    assert re.search(reason, refusal(content))


@pytest.mark.parametrize("content", hostile.DAMAGED_ARCHIVES.values(), ids=hostile.DAMAGED_ARCHIVES)
def test_damage_and_lies_are_refused(content: bytes) -> None:
    assert "cut off or damaged" in refusal(content)


def test_names_of_patients_stay_out_of_messages() -> None:
    assert "Doe" not in refusal(hostile.make("tar", [("Jane Doe/1.png", b"1"), ("Jane Doe/../../x", b"2")]))
    assert "Doe" not in refusal(hostile.make("tar", [("Jane Doe", b"1"), ("JANE DOE", b"2")]))


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_cut_anywhere_is_refused(kind: str) -> None:
    whole = hostile.make(kind, TREE)
    # The second half of a tar's padding says nothing that the first does not.
    end = len(whole.rstrip(b"\0")) if kind == "tar" else len(whole)
    for percent in range(100):
        content = whole[: end * percent // 100]
        with only_archive_changed(content) as (archive, folder):
            with pytest.raises(RejectedInput):
                unpack(archive, folder)
            assert not folder.exists()


@pytest.mark.parametrize("content", [b"", b"\0" * 10240, b"PK", b"<html>", gzip.compress(b"id,label\n1,2\n", mtime=0)])
def test_what_is_no_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "scans.zip").write_bytes(content)
    assert not is_archive(tmp_path / "scans.zip")
    with pytest.raises(RejectedInput, match=r"scans\.zip is not a zip"):
        unpack(tmp_path / "scans.zip", tmp_path / "folder")


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_without_files_is_refused(kind: str) -> None:
    assert "has no files" in refusal(hostile.make(kind, {".DS_Store": b""}))


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "tar.bz2", "tar.xz"])
def test_a_bomb_is_refused_by_its_ratio(kind: str) -> None:
    content = hostile.make(kind, {"zeros": b"\0" * 2**25})
    assert "above the allowed ratio" in refusal(content)


def test_a_bomb_whose_files_share_one_body_is_refused() -> None:
    assert "damaged" in refusal(hostile.zip_of_one_body(500, b"\0" * 2**20))


@pytest.mark.parametrize("kind", KINDS)
def test_more_bytes_than_allowed_are_refused(kind: str) -> None:
    content = hostile.make(kind, {str(number): b"x" * 1000 for number in range(200)})
    assert "100,000 are allowed" in refusal(content, Limits(max_bytes=100_000))


@pytest.mark.parametrize("kind", KINDS)
def test_more_entries_than_allowed_are_refused(kind: str) -> None:
    content = hostile.make(kind, {str(number): b"" for number in range(11)})
    assert "10 are allowed" in refusal(content, Limits(max_entries=10))
    with only_archive_changed(content) as (archive, folder):
        assert len(unpack(archive, folder, limits=Limits(max_entries=11))) == 11


def test_a_zip_of_a_million_files_is_refused_before_its_directory_is_parsed() -> None:
    content = hostile.zip_of_empty_files(10**6)
    tracemalloc.start()
    with only_archive_changed(content) as (archive, folder):
        del content
        with pytest.raises(RejectedInput, match="at least 1,000,000"):
            unpack(archive, folder)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 250 * 2**20


def test_a_zip_directory_too_large_to_load_is_refused() -> None:
    assert "too many to load" in refusal(hostile.zip_of_empty_files(10**4), Limits(max_entries=100))


def test_a_long_chain_of_headers_does_not_exhaust_the_stack(tmp_path: Path) -> None:
    header = hostile.tar_header("x", tarfile.XHDTYPE, 0)
    (tmp_path / "archive").write_bytes(header * 5000 + hostile.make_tar({"a": b"1"}))
    assert unpack(tmp_path / "archive", tmp_path / "folder") == [tmp_path / "folder" / "a"]


def test_an_archive_is_not_replaced_by_its_content(tmp_path: Path) -> None:
    archive = tmp_path / "folder" / "archive"
    archive.parent.mkdir()
    archive.write_bytes(hostile.make_zip({"a": b""}))
    with pytest.raises(UserError, match="the folder that its content would replace"):
        unpack(archive, archive.parent)
    assert archive.exists()


QUICK = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
odd_parts = st.sampled_from(["..", ".", "", "a", "A", "C:", "\\", "~", "__MACOSX", "a\n", "é", "\u202e", " "])
odd_names = st.one_of(
    st.lists(odd_parts, min_size=1, max_size=5).map("/".join),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=20),
).filter(lambda name: "\0" not in name)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@QUICK
@given(names=st.lists(odd_names, min_size=1, max_size=4), kind=st.sampled_from(["zip", "tar"]))
def test_no_list_of_names_lands_outside(names: list[str], kind: str) -> None:
    with only_archive_changed(hostile.make(kind, [(name, b"x") for name in names])) as (archive, folder):
        try:
            paths = unpack(archive, folder)
        except RejectedInput:
            assert not folder.exists()
        else:
            assert {path.resolve() for path in paths} == {
                path.resolve() for path in folder.rglob("*") if path.is_file()
            }


plain_parts = st.text(st.sampled_from("abcdefgh 0123-_.ßé肺"), min_size=1, max_size=12).filter(
    lambda part: part not in (".", "..") and not part.startswith("._")
)
plain_names = st.lists(plain_parts, min_size=1, max_size=3).map("/".join)


def clash(names: list[str]) -> bool:
    folders = {name.casefold().rsplit("/", depth)[0] for name in names for depth in range(1, name.count("/") + 1)}
    folded = [name.casefold() for name in names]
    return len(set(folded)) < len(folded) or not folders.isdisjoint(folded)


@QUICK
@given(
    tree=st.dictionaries(plain_names, st.binary(max_size=2000), min_size=1, max_size=6).filter(
        lambda tree: not clash(list(tree))
    ),
    kind=st.sampled_from(KINDS),
)
def test_every_plain_tree_comes_back(tree: dict[str, bytes], kind: str) -> None:
    with only_archive_changed(hostile.make(kind, tree)) as (archive, folder):
        unpack(archive, folder)
        assert files_in(folder) == tree


@settings(QUICK, max_examples=100)
@given(data=st.data(), kind=st.sampled_from(["zip", "tar", "tar.gz"]))
def test_flipped_bytes_are_refused_or_harmless(data: st.DataObject, kind: str) -> None:
    content = bytearray(hostile.make(kind, TREE))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    with only_archive_changed(bytes(content)) as (archive, folder):
        try:
            unpack(archive, folder)
        except RejectedInput:
            assert not folder.exists()
